"""What every token mixer's Config must offer. The Module beside it maps (B, L, D) to (B, L, D)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import Field

from trm.grid import Grid, Layout
from trm.settings.versions import Config

if TYPE_CHECKING:
    from torch import nn

HaltingPosition = Literal["first", "last"]
KEY = "model.mixer"  # where a mixer stands in the config, for messages


class PlacedMixer(NamedTuple):
    """A mixer at its place in a block, which is what alternating ones go by."""

    mixer: SublayerConfig
    scan_index: int  # scans (state-space models) before it in the block


class ArrangementConfig(Config, ABC):
    """Which mixers stand before the SwiGLU of each layer of a block; `kind` is its name in YAML, in MLflow
    and in tables.

    All of this is plain arithmetic, so that a sweep is planned without making a tensor.
    D is `hidden_size` (channels) and L is `seq_len` (tokens, the puzzle embedding's slots included).
    """

    kind: str

    @abstractmethod
    def sublayers(self, layer_idx: int) -> tuple[SublayerConfig, ...]:
        """The mixers of a layer, one after the other, each with a residual connection and a norm."""

    @abstractmethod
    def check(self, hidden_size: int, key: str = KEY) -> None:
        """Raise ValueError where a mixer cannot be built at this width; `key` is the place in the config."""

    @abstractmethod
    def check_grid(self, grid: Grid | None, key: str = KEY) -> None:
        """Raise ValueError where a mixer does not fit the task's board."""

    @property
    @abstractmethod
    def uses_rope(self) -> bool:
        """Whether a mixer takes rotary positions."""

    @property
    @abstractmethod
    def needs_gpu(self) -> bool:
        """Whether a mixer runs on an NVIDIA GPU only."""

    @property
    @abstractmethod
    def saved_by_compiling(self) -> float:
        """Share of a training step that `torch.compile` saves on a CPU core (docs/performance.md)."""

    def layers(self, num_layers: int, key: str = "model.num_layers") -> list[list[PlacedMixer]]:
        """The mixers of each layer. Raises ValueError, which names `key`, where they do not come out even."""
        layers, scan_index = [], 0
        for layer_idx in range(num_layers):
            layer = []
            for mixer in self.sublayers(layer_idx):
                layer.append(PlacedMixer(mixer, scan_index))
                scan_index += mixer.num_scans
            layers.append(layer)
        return layers

    def effective(self, hidden_size: int, layout: Layout, num_layers: int) -> list[list[dict[str, Any]]]:
        """The mixers of each layer as they take effect: equal ones where the same function is built."""
        return [
            [mixer.effective_at(scan_index, hidden_size, layout) for mixer, scan_index in layer]
            for layer in self.layers(num_layers)
        ]

    def halting_position(self, num_layers: int) -> HaltingPosition:
        """The position of a block's output that depends on the whole puzzle; the halting head reads it.

        Where all is read forwards, that is the last one; as soon as something is read backwards as well, or
        in both ways at once, it is every one. Orders of reading begin and end at the same tokens.
        """
        placed = [each for layer in self.layers(num_layers) for each in layer]
        backwards = any(any(mixer.reversals(scan_index)) for mixer, scan_index in placed)
        return "first" if backwards else "last"


class HybridConfig(ArrangementConfig):
    """An arrangement of other ones, `mixers`: what each of them asks for, it asks for."""

    mixers: tuple[Any, ...]

    def check(self, hidden_size: int, key: str = KEY) -> None:
        for i, part in enumerate(self.mixers):
            part.check(hidden_size, f"{key}.mixers.{i}")

    def check_grid(self, grid: Grid | None, key: str = KEY) -> None:
        for i, part in enumerate(self.mixers):
            part.check_grid(grid, f"{key}.mixers.{i}")

    @property
    def uses_rope(self) -> bool:
        return any(part.uses_rope for part in self.mixers)

    @property
    def needs_gpu(self) -> bool:
        return any(part.needs_gpu for part in self.mixers)

    @property
    def saved_by_compiling(self) -> float:
        return min(float(part.saved_by_compiling) for part in self.mixers)


class SublayerConfig(ArrangementConfig):
    """What has one residual connection and one norm: a mixer, or several side by side.

    By itself it is the arrangement that has it in every layer.
    """

    norm_axis: ClassVar[Literal["channel", "token"]] = "channel"  # axis of the block's norm after the mixer

    @abstractmethod
    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> nn.Module:
        """The module, with its parameters initialised from torch's current generator.

        It takes and gives (B, L, D). `scan_index` as in `PlacedMixer`; `rope_theta` is None where there are
        no rotary positions.
        """

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        """Trainable parameters of one module: counted, unless a mixer gives a formula, which is faster."""
        return sum(parameter.numel() for parameter in _without_data(self, hidden_size, layout).parameters())

    def flops(self, hidden_size: int, layout: Layout) -> int:
        """Forward FLOPs of one row, as `torch.utils.flop_counter` counts them (2 per multiply-add).

        Counted, unless a mixer gives a formula, which is faster.
        """
        return _counted_flops(self, hidden_size, layout) + self.uncounted_flops(hidden_size, layout)

    @property
    def notes(self) -> list[str]:
        """What is allowed, but may not be what was meant, as sentences for a preview."""
        return []

    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        """Those that torch's counter takes for none, such as a triangular solve's.

        A mixer whose `flops` is a formula gives them too: the tests add them to the counter's.
        """
        return 0

    def sublayers(self, layer_idx: int) -> tuple[SublayerConfig, ...]:
        return (self,)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        pass

    def check_grid(self, grid: Grid | None, key: str = KEY) -> None:
        pass

    @property
    def uses_rope(self) -> bool:
        return False

    @property
    def needs_gpu(self) -> bool:
        return False

    @property
    def saved_by_compiling(self) -> float:
        return 0.0  # a mixer that was not measured is not compiled

    @property
    def num_scans(self) -> int:
        """State-space models in it: one where it has a `direction`, which alternates from one to the next."""
        return int("direction" in type(self).model_fields)

    def reversals(self, scan_index: int) -> tuple[bool, ...]:
        """For each reading of the tokens, whether it runs from last to first; both, where all see all."""
        direction = getattr(self, "direction", None)
        if direction in ("forward", "alternating"):
            return (direction == "alternating" and scan_index % 2 == 1,)
        return (False, True)

    @property
    def alternates(self) -> bool:
        """Whether its direction depends on the scans before it."""
        return getattr(self, "direction", None) == "alternating"

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        """The config as it takes effect at its place: equal ones where the same function is built.

        A mixer overrides it where a value may change nothing, such as a width that is rounded.
        """
        fields = self.model_dump(mode="json")
        if fields.get("direction") == "alternating":
            fields["direction"] = "backward" if self.reversals(scan_index)[0] else "forward"
        return fields


class MixerConfig(SublayerConfig):
    """Hyper-parameters of a mixer.

    A mixer must give `kind` and `build`; every field has a default. One that has a field `direction` with the
    value `forward` or `alternating` reads one way there, and sees only the tokens behind it.
    """

    added: ClassVar[tuple[str, ...]] = ("out_gain",)

    # Factor of the initial weights of the projection that makes the mixer's output, which a mixer's `build`
    # applies. Deviation from every published mixer, of which it is 1.
    out_gain: float = Field(1.0, gt=0.0)


def _without_data(config: SublayerConfig, hidden_size: int, layout: Layout) -> nn.Module:
    """The module on the meta device: shapes and no numbers."""
    import torch

    with torch.device("meta"):
        return config.build(hidden_size, layout, 0, None)


@lru_cache(maxsize=1024)
def _counted_flops(config: SublayerConfig, hidden_size: int, layout: Layout) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    module = _without_data(config, hidden_size, layout)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.empty(1, layout.seq_len, hidden_size, device="meta"))
    return int(counter.get_total_flops())
