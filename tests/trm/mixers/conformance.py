"""What every mixer must hold to: each registered one at a size for tests, and the checks of its contract.

All is taken from the registry and from the config's own fields. The checks are functions of a config, so that
`test_broken_mixers` can prove that each of them catches what it is there for.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement
from types import ModuleType, NoneType
from typing import Annotated, Any, Literal, NamedTuple, get_args, get_origin

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from tests.trm.mixers.reference import relative_error
from trm.grid import Grid, Layout
from trm.mixers import MIXERS, MixerConfig

HIDDEN = 16
LAYOUT = Layout(9, Grid(2, 4, (2, 2)))  # one slot before the board
MAZE = Layout(900 + 16, Grid(30, 30))
LIMITS = (16, 8, 4, 2, 1)  # of whole numbers, where a mixer's defaults are made for more than HIDDEN channels
SIZES: dict[str, dict[str, Any]] = {  # optional: smaller than that, for tests that take less time
    "attention": {"num_heads": 2},
    "mamba": {"d_state": 4},
    "mamba2": {"d_state": 4, "headdim": 4},
    "mamba3": {"d_state": 8, "headdim": 5},
    "mlstm": {"expand": 1.0, "num_heads": 2},
    "rwkv7": {"expand": 1.0, "head_size": 4, "rank_w": 2, "rank_a": 2, "rank_g": 3},
    "gated_deltanet": {"num_heads": 2},
    "kda": {"num_heads": 2, "d_state": 4, "head_dim": 6},
}
WIDER = 1.5  # an `expand` that gives every order an equal share, where the default does not
COMBINED: dict[str, list[dict[str, Any]]] = {  # optional: what fields do together
    "attention": [{"num_heads": 1, "head_dim": 6}],
    "mamba2": [
        {"d_conv": 1},
        {"direction": "quasiseparable", "d_conv": 7},
        *(
            {"direction": direction, "order": ("column", "box"), "ngroups": 2, "expand": WIDER}
            for direction in ("bidirectional_own", "quasiseparable")
        ),
    ],
    "gated_deltanet": [
        {"num_v_heads": 4, "order": ("column", "box"), "direction": "bidirectional"},
        {"d_state": 3, "head_dim": 5, "allow_neg_eigval": True, "d_conv": 1},
    ],
    "kda": [
        {"order": ("column", "box"), "direction": "bidirectional"},
        {"d_state": 3, "allow_neg_eigval": True},
    ],
}


def accepts(config: MixerConfig, hidden: int = HIDDEN, layout: Layout = LAYOUT) -> bool:
    """Whether the mixer can be built so."""
    try:
        config.check(hidden)
        config.check_grid(layout.grid)
    except ValueError:
        return False
    return True


def changed(config: MixerConfig, **fields: Any) -> MixerConfig | None:
    """The config with other values; None where they are refused, or run on a GPU only."""
    try:
        other = type(config)(**(config.model_dump() | fields))
    except ValueError:
        return None
    return other if accepts(other) and not other.needs_gpu else None


def small(cls: type[MixerConfig]) -> MixerConfig:
    """The mixer at its defaults or SIZES; where they do not fit HIDDEN channels, under one of LIMITS."""
    config = cls(**SIZES.get(cls.model_fields["kind"].default, {}))
    if accepts(config):
        return config
    for limit in LIMITS:
        numbers = {name: min(v, limit) for name, v in config.model_dump().items() if type(v) is int}
        if (smaller := changed(config, **numbers)) is not None:
            return smaller
    raise AssertionError(
        f"{config.kind}: no size of its whole numbers fits {HIDDEN} channels: give SIZES, in "
        f"tests/trm/mixers/conformance.py, fields that do"
    )


def small_configs() -> dict[str, MixerConfig]:
    """Every mixer at its small size, and as COMBINED says, by name."""
    configs = {kind: small(cls) for kind, cls in MIXERS.items()}
    for kind, combinations_of_fields in COMBINED.items():
        for fields in combinations_of_fields:
            name = "-".join([kind, *(f"{key}={value}" for key, value in fields.items())])
            configs[name] = MIXERS[kind](**(SIZES.get(kind, {}) | fields))
    return configs


def directions_and_orders() -> dict[str, MixerConfig]:
    """Every mixer that has these fields in each of its other directions, and in two orders at once.

    Each of the two is that of a part of the heads.
    """
    configs: dict[str, MixerConfig] = {}
    for kind, cls in MIXERS.items():
        config = small(cls)
        for field in [name for name in ("direction", "order") if name in cls.model_fields]:
            values = other_values(config, field)
            mixed = [value for value in values if isinstance(value, tuple) and len(set(value)) > 1]
            for value in mixed[:1] or [value for value in values if isinstance(value, str)]:
                one = changed(config, **{field: value})
                if one is None and "expand" in cls.model_fields:
                    one = changed(config, expand=WIDER, **{field: value})
                if one is not None:
                    configs[f"{kind}-{value if isinstance(value, str) else '+'.join(value)}"] = one
    return configs


def other_values(config: MixerConfig, field: str) -> list[Any]:
    """Values to try in a field's place: all of a Literal, some numbers, and pairs of what a tuple may hold.

    Of a tuple no two values differ in their order alone: whether that has an effect is the mixer's to say.
    """
    value = getattr(config, field)
    found: list[Any] = []
    for annotation in _members(type(config).model_fields[field].annotation):
        if get_origin(annotation) is Literal:
            found += get_args(annotation)
        elif annotation is bool:
            found += [False, True]
        elif annotation is NoneType:
            found.append(None)
        elif annotation in (int, float):
            found += _numbers(value)
        elif get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Literal:
            found += combinations_with_replacement(get_args(get_args(annotation)[0]), 2)
    return [other for other in found if other != value]


def _members(annotation: Any) -> Iterator[Any]:
    """The types of a union, or the one type."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if get_origin(annotation) in (None, Literal, tuple):
        yield annotation
    else:
        for member in get_args(annotation):
            yield from _members(member)


def _numbers(value: Any) -> list[Any]:
    if not isinstance(value, int | float):
        return [1, 2, 4, 8, 16]  # beside None, "made from the hidden size": one of them may be what it makes
    return [2 * value, value + 1] + [1.0001 * value] * isinstance(value, float)


def build(
    config: MixerConfig, hidden: int = HIDDEN, layout: Layout = LAYOUT, scan_index: int = 0, seed: int = 0
) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return config.build(hidden, layout, scan_index, 10000.0)


def states(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


class Function(NamedTuple):
    """What a config builds from a seed."""

    shapes: dict[str, torch.Size]  # of its parameters
    y: Tensor  # of fixed states, in float64

    def equals(self, other: Function) -> bool:
        """Whether they are one function, but for the order of a sum."""
        return self.shapes == other.shapes and relative_error(self.y, other.y) < 1e-9


def function_of(config: MixerConfig, scan_index: int) -> Function:
    module = build(config, scan_index=scan_index).double()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in module.parameters():  # what starts at zero has an effect too
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.1 * noise)
        y = module(states(2, LAYOUT.seq_len, HIDDEN, dtype=torch.float64))
    return Function({name: parameter.shape for name, parameter in module.named_parameters()}, y)


def check_layers_alternate(config: MixerConfig) -> None:
    """Under `direction: alternating` the second layer reads the other way than the first one."""
    first, second = (function_of(mixer, at) for layer in config.layers(2) for mixer, at in layer)
    assert not first.equals(second), (
        f"{config!r}: layers 0 and 1 compute the same, though they alternate: build() must go by scan_index, "
        f"and num_scans must count this mixer"
    )


def check_effective(config: MixerConfig) -> None:
    """`effective_at` is equal where, and only where, the same function is built.

    The config is compared with those in which one field has another value, each in layers of both parities.
    """
    fields = [name for name in type(config).model_fields if name != "kind"]
    others = [changed(config, **{name: value}) for name in fields for value in other_values(config, name)]
    placed = [(each, at) for each in (config, *others) if each is not None for at in (0, 1)]
    found = [
        (f"{mixer!r} at scan_index {at}", function_of(mixer, at), mixer.effective_at(at, HIDDEN, LAYOUT))
        for mixer, at in placed
    ]
    for (name, function, effective), (other_name, other, other_effective) in combinations(found, 2):
        if function.equals(other):
            assert effective == other_effective, (
                f"{name} and {other_name} build the same function, but their effective_at differ: "
                f"{effective} and {other_effective}"
            )
        else:
            assert effective != other_effective, (
                f"{name} and {other_name} build different functions, but both have the effective_at "
                f"{effective}"
            )


def check_num_params(config: MixerConfig, hidden: int = HIDDEN, layout: Layout = LAYOUT) -> None:
    given = config.num_params(hidden, layout)
    counted = sum(parameter.numel() for parameter in build(config, hidden, layout).parameters())
    assert given == counted, f"{config!r}: num_params gives {given}, the module has {counted}"


def check_flops(config: MixerConfig, hidden: int = HIDDEN, layout: Layout = LAYOUT) -> None:
    """`flops` is what torch's counter gives, and `uncounted_flops`."""
    module = build(config, hidden, layout)
    # The counter does not know the fused attention of the CPU: let it be two matrix products.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(states(2, layout.seq_len, hidden))
    given, uncounted = config.flops(hidden, layout), config.uncounted_flops(hidden, layout)
    counted = counter.get_total_flops() // 2  # of two rows
    assert given == counted + uncounted, (
        f"{config!r}: flops gives {given}, the counter {counted}, and uncounted_flops {uncounted} more"
    )


def check_chunks(
    config: MixerConfig, kernel: ModuleType, monkeypatch: pytest.MonkeyPatch, atol: float = 1e-5
) -> None:
    """Of a mixer whose `kernel` has a quadratic form: no matrix of 916 x 916 is made for a 30 x 30 board, and
    both forms agree."""
    module, x = build(config, layout=MAZE), states(1, MAZE.seq_len, HIDDEN)
    lengths, quadratic = [], kernel.quadratic
    monkeypatch.setattr(kernel, "quadratic", lambda u, *a: lengths.append(u.shape[-2]) or quadratic(u, *a))
    y = module(x)
    assert set(lengths) == {64}
    monkeypatch.setattr(kernel, "QUADRATIC_MAX_LEN", 1000)
    torch.testing.assert_close(module(x), y, rtol=1e-4, atol=atol)
    assert 916 in lengths
