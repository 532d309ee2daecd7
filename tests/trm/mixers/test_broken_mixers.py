"""The conformance suite catches what a mixer forgets of its contract, and passes one that is sound."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from tests.trm.mixers.conformance import (
    check_effective,
    check_flops,
    check_layers_alternate,
    check_num_params,
    small,
)
from trm.grid import Layout
from trm.layers import CastedLinear
from trm.mixers.base import MixerConfig

ROUNDED_TO = 8


def rounded(width: int) -> int:
    return -(-width // ROUNDED_TO) * ROUNDED_TO


class Sums(nn.Module):
    """Projected running sums of the tokens, from the first or from the last one on."""

    def __init__(self, hidden_size: int, width: int, gain: float, out_gain: float, backwards: bool) -> None:
        super().__init__()
        self.up, self.down = CastedLinear(hidden_size, width), CastedLinear(width, hidden_size, gain=out_gain)
        self.gain, self.backwards = gain, backwards

    def forward(self, x: Tensor) -> Tensor:
        x = x.flip(1) if self.backwards else x
        y = self.down(self.gain * self.up(x).cumsum(1).tanh())
        return y.flip(1) if self.backwards else y


class Sound(MixerConfig):
    kind: Literal["sums"] = "sums"
    direction: Literal["forward", "alternating"] = "alternating"
    width: int | None = Field(None, ge=1)  # rounded up to a multiple of 8; None: the hidden size
    gain: float = Field(1.0, gt=0.0)

    def inner(self, hidden_size: int) -> int:
        return rounded(self.width or hidden_size)

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> nn.Module:
        backwards = self.reversals(scan_index)[0]
        return Sums(hidden_size, self.inner(hidden_size), self.gain, self.out_gain, backwards)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        return fields | {"width": self.inner(hidden_size)}


class ForgetsNumScans(Sound):
    @property
    def num_scans(self) -> int:
        return 0


class IgnoresScanIndex(Sound):
    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> nn.Module:
        return super().build(hidden_size, layout, 0, rope_theta)


class ForgetsEffectiveAt(Sound):
    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        return MixerConfig.effective_at(self, scan_index, hidden_size, layout)


class ForgetsTheDefaultWidth(Sound):
    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        return fields | {"width": None if self.width is None else rounded(self.width)}


class LeavesOutAField(Sound):
    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["gain"]
        return fields


class LeavesOutTheDirection(Sound):
    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        return super().effective_at(0, hidden_size, layout)


class MiscountsParameters(Sound):
    def num_params(self, hidden_size: int, layout: Layout) -> int:
        return 2 * hidden_size * (self.width or hidden_size) + 1


class MiscountsFlops(Sound):
    def flops(self, hidden_size: int, layout: Layout) -> int:
        return layout.seq_len * self.num_params(hidden_size, layout)  # one a multiply-add, not two


class ForgetsUncountedFlops(Sound):
    """Its formula has the sums in it, which the counter takes for none."""

    def flops(self, hidden_size: int, layout: Layout) -> int:
        return super().flops(hidden_size, layout) + layout.seq_len * self.inner(hidden_size)


class SaysUncountedFlops(Sound):
    def uncounted_flops(self, hidden_size: int, layout: Layout) -> int:
        return layout.seq_len * self.inner(hidden_size)


class Wide(Sound):
    """Its default is too wide for the tests' hidden size, and no table has it."""

    width: int | None = 64

    def check(self, hidden_size: int, key: str = "model.mixer") -> None:
        if self.inner(hidden_size) > hidden_size:
            raise ValueError(f"{key}.width is {self.width}, more than hidden_size {hidden_size}")


@pytest.mark.parametrize("cls", [Sound, SaysUncountedFlops, Wide])
def test_a_sound_mixer_passes(cls):
    for config in (small(cls), small(cls).model_copy(update={"direction": "forward"})):
        check_effective(config)
        check_num_params(config)
        check_flops(config)
    check_layers_alternate(small(cls))


@pytest.mark.parametrize(
    ("cls", "check", "message"),
    [
        (ForgetsNumScans, check_layers_alternate, "num_scans must count this mixer"),
        (IgnoresScanIndex, check_layers_alternate, r"build\(\) must go by scan_index"),
        (IgnoresScanIndex, check_effective, "build the same function"),
        (ForgetsEffectiveAt, check_effective, "build the same function"),
        (ForgetsTheDefaultWidth, check_effective, "build the same function"),
        (LeavesOutAField, check_effective, "build different functions"),
        (LeavesOutTheDirection, check_effective, "build different functions"),
        (MiscountsParameters, check_num_params, "num_params gives 513, the module has 512"),
        (MiscountsFlops, check_flops, "flops gives 4608, the counter 9216"),
        (ForgetsUncountedFlops, check_flops, "uncounted_flops 0 more"),
    ],
)
def test_what_a_mixer_forgets_is_caught(cls, check, message):
    with pytest.raises(AssertionError, match=message):
        check(small(cls))


def test_a_mixer_that_fits_at_no_size_is_told_what_to_do():
    class Huge(Sound):
        def check(self, hidden_size: int, key: str = "model.mixer") -> None:
            raise ValueError

    with pytest.raises(AssertionError, match=r"sums: no size .* give SIZES"):
        small(Huge)


def test_the_function_counts_what_starts_at_zero():
    """Two configs whose modules differ in a parameter's effect alone, which begins at zero."""

    class Shift(nn.Module):
        def __init__(self, scale: float) -> None:
            super().__init__()
            self.shift, self.scale = nn.Parameter(torch.zeros(1)), scale

        def forward(self, x: Tensor) -> Tensor:
            return x.cumsum(1) + self.scale * self.shift

    class Shifted(MixerConfig):
        kind: Literal["shifted"] = "shifted"
        scale: float = 1.0

        def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Shift:
            return Shift(self.scale)

        def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
            return {"kind": self.kind}

    with pytest.raises(AssertionError, match="build different functions"):
        check_effective(Shifted())
