"""What a GPU would be asked to do, asked of one that computes nothing: every mixer and variant of the model.

What this notices: a tensor that is on the wrong device, a step that waits for the device, an operator without
shapes for tracing or with wrong ones, a dtype or shape that does not fit on CUDA (fused AdamW, bfloat16).

What it does not cover: numbers; the kernels, cuBLAS and Triton's code included; the autograd engine, as
`Tensor.backward` here calls the nodes of the graph one after the other, in one thread and without streams;
the memory allocator; and torch.compile, which is off here. `docs/gpu.md` says what checks those.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle, product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trm.fake_cuda import HOST, WAITS, needs_compiler, no_waiting, on_fake_cuda
from tests.trm.mixers.conformance import HIDDEN, LAYOUT, build, directions_and_orders, small, small_configs
from tests.trm.test_trainer import FakeTrial, make_config
from trm import loop
from trm.config import LossConfig, TrialConfig
from trm.loop import Trainer
from trm.mixers import MIXERS, MixerConfig
from trm.mixers.base import ArrangementConfig
from trm.mixers.hybrids import ParallelConfig, PatternConfig, SublayersConfig
from trm.mixers.kernels import scan_triton
from trm.mixers.kernels.scan import IN_TORCH

pytestmark = needs_compiler

GPU = torch.device("cuda:0")
SINGLE = {kind: small(cls) for kind, cls in MIXERS.items()}
PAIR = tuple(SINGLE.values())[-2:]
HYBRIDS: dict[str, ArrangementConfig] = {
    "parallel": ParallelConfig(mixers=PAIR),
    "sublayers": SublayersConfig(mixers=PAIR),
    "pattern": PatternConfig(mixers=PAIR),
}
# Each value of a key with each value of every other one.
VARIANTS = [
    {"latents": latents, "act": act, "networks": networks, "gradient": gradient}
    for (latents, act), (networks, gradient) in zip(
        product(("two", "single", "multi_scale"), ("halt", "continue", "none")),
        cycle(product(("shared", "separate"), ("recursion", "one_step"))),
    )
]
TINY: dict[str, dict[str, Any]] = {
    "model": {"h_cycles": 1, "l_cycles": 2, "halt_max_steps": 2},
    "data": {"num_train": 8, "num_val": 4, "num_test": 4},
    "optim": {"lr_warmup_steps": 1},
    "train": {"batch_size": 4, "max_samples": 8, "compile": "off"},
    "eval": {"every_samples": 4, "val_rows": 4, "batch_size": 4, "depth_steps": 3, "depth_rows": 4},
}


@pytest.fixture(autouse=True)
def short_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches draw 65,536 rows ahead, of eight puzzles in 8,192 operations."""
    monkeypatch.setattr("trm.batches._BLOCK", 64)


def tiny(mixer: ArrangementConfig | None = None, loss: str = "stablemax", **changes: Any) -> TrialConfig:
    groups = {group: values | changes.pop(group, {}) for group, values in TINY.items()}
    assert not changes
    if mixer is not None:
        layers = len(mixer.mixers) if isinstance(mixer, PatternConfig) else 1
        groups["model"] |= {"mixer": mixer.model_dump(), "num_layers": layers}
    return make_config(**groups).model_copy(update={"loss": LossConfig(kind=loss)})


def trial_in(folder: Path, checkpoint: Path | None = None) -> FakeTrial:
    trial = FakeTrial(folder, checkpoint)
    trial.device = str(GPU)
    return trial


def take_a_step(config: TrialConfig, folder: Path) -> Trainer:
    """The first step of a run, whose batches are drawn ahead on the host and copied before."""
    with on_fake_cuda():
        trainer = Trainer(config, trial_in(folder))
        trainer.model.train()
        trainer.batches(1)
        with no_waiting():
            trainer.train_step(1)
    return trainer


def devices_in(state: Any) -> set[torch.device]:
    """Of all tensors in a tree of dicts and lists."""
    return {leaf.device for leaf in torch.utils._pytree.tree_leaves(state) if isinstance(leaf, Tensor)}


@pytest.mark.parametrize("mixer", (SINGLE | HYBRIDS).values(), ids=(SINGLE | HYBRIDS).keys())
def test_a_step_of_every_mixer(tmp_path: Path, mixer: ArrangementConfig) -> None:
    trainer = take_a_step(tiny(mixer), tmp_path)
    assert trainer.step == 1 and trainer.carry.z_H.dtype == torch.bfloat16
    assert devices_in(trainer._state()) == {GPU}
    for name, parameter in trainer.model.named_parameters():
        assert parameter.device == GPU and parameter.dtype == torch.float32, name


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: "-".join(variant.values()))
def test_a_step_of_every_variant(tmp_path: Path, variant: dict[str, str]) -> None:
    assert take_a_step(tiny(model=variant), tmp_path).step == 1


OTHERS: dict[str, dict[str, Any]] = {
    "fixed variants of each puzzle": {"data": {"num_aug": 3}},
    "a maze": {"data": {"task": "maze", "source": "generated", "size": 5}},
    "micro-batches, no average": {"train": {"micro_batch": 2}, "optim": {"ema_decay": 0.0}},
    "muon, clipping": {"optim": {"kind": "muon", "clip_norm": 1.0}},
    "two recursions with a gradient, a convolution": {
        "model": {"h_cycles": 2, "gradient_h_cycles": 2, "gradient_l_cycles": 1, "swiglu": "conv"},
    },
    "noise, dropout, damping": {"model": {"latent_noise": 0.1, "latent_dropout": 0.1, "damping": 0.1}},
    "softmax, learned positions, no slots": {
        "model": {"pos_encodings": "learned", "puzzle_emb_len": 0}, "loss": "softmax",
    },
}  # fmt: skip


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS.keys())
def test_a_step_of_other_settings(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert take_a_step(tiny(**changes), tmp_path).step == 1


@pytest.mark.parametrize("act", ["continue", "none"])
def test_a_trial_with_its_reports_resumes_from_its_checkpoint(tmp_path: Path, act: str) -> None:
    """Evaluation, depth metrics, chosen and averaged weights, and the state in a file."""
    config = tiny(model={"act": act})
    with on_fake_cuda():
        whole = trial_in(tmp_path / "whole")
        Trainer(config, whole).run()
        resumed = Trainer(config, trial_in(tmp_path / "resumed", checkpoint=whole.folder / "1"))
        assert devices_in(resumed._state()) == {GPU}
        resumed.run()
    assert [row["step"] for row in whole.rows] == [1, 2] and set(whole.rows[-1]) == set(
        resumed.trial.rows[-1]
    )
    assert "test/exact_accuracy_at_3" in whole.rows[-1]


PLACED = {name: mixer for name, mixer in small_configs().items() if name not in SINGLE}
PLACED |= directions_and_orders()


@pytest.mark.parametrize("mixer", PLACED.values(), ids=PLACED.keys())
def test_a_mixer_in_every_direction_and_order(mixer: MixerConfig) -> None:
    with on_fake_cuda():
        module = build(mixer, scan_index=1).to(GPU)
        x = torch.zeros(2, LAYOUT.seq_len, HIDDEN, dtype=torch.bfloat16, device=GPU)
        with no_waiting():
            y = module(x)
            y.sum().backward()
    assert y.dtype == x.dtype and y.device == GPU
    assert all(
        parameter.grad is not None and parameter.grad.device == GPU for parameter in module.parameters()
    )


def test_data_are_read_and_cached_with_their_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    config = tiny(data={"num_train": 9}).data
    loop._load_data.cache_clear()
    with on_fake_cuda():
        loaded = loop._load_data(config)
    assert loaded.hash == config.load().hash  # from the file that was just written
    assert loaded.train.labels.min() > 0
    loop._load_data.cache_clear()


def scan_inputs(dtype: torch.dtype) -> tuple[tuple[Tensor, ...], Tensor]:
    x, B = (torch.zeros(2, 5, size, dtype=dtype, device=GPU) for size in (4, 3))
    A, D = torch.zeros(4, 3, device=GPU), torch.zeros(4, device=GPU)
    return (x, x.float(), A, B, B, D), x


def test_the_scan_in_torch() -> None:
    """An operator's inside is not seen from outside it."""
    with on_fake_cuda(), no_waiting():
        inputs, dy = scan_inputs(torch.bfloat16)
        y, checkpoints = IN_TORCH.scan(inputs, False, 3)
        gradients = IN_TORCH.gradients(inputs, dy, checkpoints, False, 3)
    assert [g.shape for g in gradients] == [v.shape for v in inputs] and devices_in((y, *gradients)) == {GPU}


class Launched:
    """A Triton kernel that does nothing but look at what it is given."""

    def __getitem__(self, grid: tuple[int]) -> Callable[..., None]:
        assert grid[0] > 0

        def launch(*given: Any, **constants: Any) -> None:
            assert devices_in(given) == {GPU}
            assert all(isinstance(value, Tensor | int) for value in given)

        return launch


def test_the_scans_kernels_are_launched_with_tensors_of_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for kernel in ("_scan_kernel", "_gradients_kernel"):
        monkeypatch.setattr(scan_triton, kernel, Launched())
    with on_fake_cuda(), no_waiting():
        inputs, dy = scan_inputs(torch.bfloat16)
        y, checkpoints = scan_triton.scan(inputs, True, 3)
        gradients = scan_triton.gradients(inputs, dy, checkpoints, True, 3)
    assert y.dtype == torch.bfloat16 and [g.dtype for g in gradients] == [v.dtype for v in inputs]


WAITING: dict[str, Callable[[Tensor], object]] = {
    "item": lambda x: x.sum().item(),
    "tolist": lambda x: x.tolist(),
    "bool": lambda x: bool(x.sum()),
    "cells of a mask": lambda x: x[x > 0],
    "set by a mask": lambda x: x.__setitem__(x > 0, torch.zeros(1, device=GPU)),
    "nonzero": lambda x: x.nonzero(),
    "counted repeats": lambda x: x.repeat_interleave(torch.ones(3, dtype=torch.int64, device=GPU)),
    "equal": lambda x: torch.equal(x, x),
    "cpu": lambda x: x.cpu(),
}
OF_THE_HOST: dict[str, Callable[[Tensor], object]] = {
    "of a row": lambda x: x + torch.arange(3),
    "a number": lambda x: x + torch.tensor(2.0),
    "copied": lambda x: torch.tensor([2.0], device=GPU),
    "with numbers": lambda x: x + REAL,
}
REAL = torch.ones(3)


@pytest.mark.parametrize("wrong", (WAITING | OF_THE_HOST).values(), ids=(WAITING | OF_THE_HOST).keys())
def test_what_must_not_be_in_a_step_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: Callable[[Tensor], object]
) -> None:
    """Planted in the loss of a whole step."""
    right = loop.supervision_loss

    def with_a_mistake(*given: Any) -> Any:
        wrong(torch.zeros(3, device=GPU))
        return right(*given)

    monkeypatch.setattr(loop, "supervision_loss", with_a_mistake)
    mismatch = torch._subclasses.fake_tensor.FakeTensorDeviceMismatchError
    with pytest.raises((AssertionError, mismatch), match=f"{WAITS}|{HOST}|cpu and cuda:0|cuda:0 and cpu"):
        take_a_step(tiny(), tmp_path)
