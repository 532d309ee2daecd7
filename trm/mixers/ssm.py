"""What the two state-space mixers share: their fields, reading directions, and how they start.

Names here and in the papers (Mamba = arXiv 2312.00752, Mamba-2 = arXiv 2405.21060):

    D  hidden_size        E  d_inner = expand x D, the mixer's channels      N  d_state
    L  tokens             k  d_conv, the convolution's taps                  dt the step size, Delta

A state-space model runs one way, so that a token sees only what stands before it. `direction` says how the
layers read the tokens: `forward`, from first to last; `alternating`, those of an odd index backwards, which
costs nothing and lets two layers see everything; `bidirectional`, each of them both ways, averaged. Of a
bidirectional layer's parameters the two readings share all but those that make B, C and dt of the tokens
(in Mamba-2 their rows of `in_proj` and `conv1d`, in Mamba their half of `x_proj`).
"""

from __future__ import annotations

import importlib.util
import math
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from trm.mixers.base import MixerConfig, Readout

Direction = Literal["forward", "bidirectional", "alternating"]
DT_MIN, DT_MAX = 1e-3, 1e-1  # step sizes at the start (Mamba, section 3.6)


class SSMConfig(MixerConfig):
    d_state: int = Field(ge=1)
    d_conv: int = Field(4, ge=1)
    expand: float = Field(1.25, gt=0.0)  # 1.25 gives as many parameters as attention has
    direction: Direction = "alternating"
    backend: Literal["torch", "mamba_ssm"] = "torch"  # mamba_ssm: the fused kernels of that package, on a GPU

    @property
    def needs_gpu(self) -> bool:
        return self.backend == "mamba_ssm"

    @property
    def num_directions(self) -> int:
        """Readings of the tokens in one layer."""
        return 2 if self.direction == "bidirectional" else 1

    def d_inner(self, hidden_size: int) -> int:
        return round(self.expand * hidden_size)

    def reversals(self, layer_idx: int) -> tuple[bool, ...]:
        """For each reading of this layer, whether it runs from the last token to the first."""
        if self.direction == "bidirectional":
            return (False, True)
        return (self.direction == "alternating" and layer_idx % 2 == 1,)

    def readout(self, num_layers: int) -> Readout:
        if self.direction == "forward" or (self.direction == "alternating" and num_layers == 1):
            return "last"
        return "first"  # alternating: the second layer brings it what the first one gathered at the end

    def check(self, hidden_size: int) -> None:
        channels = self.expand * hidden_size
        if abs(channels - round(channels)) > 0.01 or round(channels) < 1:
            raise ValueError(
                f"model.mixer.expand x model.hidden_size must be a whole number of channels, but "
                f"{self.expand} x {hidden_size} = {channels:g}: give an expand such as "
                f"{max(1, round(channels)) / hidden_size:.6g} or another hidden_size"
            )
        if self.backend == "mamba_ssm" and importlib.util.find_spec("mamba_ssm") is None:
            raise ValueError(
                "model.mixer.backend is 'mamba_ssm', but the package mamba_ssm is not installed here: "
                "install it (it needs an NVIDIA GPU), or set backend to 'torch'"
            )

    def effective(self, hidden_size: int, seq_len: int, num_layers: int) -> dict[str, Any]:
        fields = self.model_dump(mode="json", exclude={"expand", "backend"})
        if num_layers == 1 and self.direction == "alternating":
            fields["direction"] = "forward"
        return fields | {"d_inner": self.d_inner(hidden_size)}


def dt_bias_init(size: int) -> Tensor:
    """Biases whose softplus is log-uniform in [DT_MIN, DT_MAX] (Mamba, section 3.6), (size,)."""
    dt = torch.empty(size).uniform_(math.log(DT_MIN), math.log(DT_MAX)).exp()
    return dt + torch.log(-torch.expm1(-dt))  # the inverse of softplus


def undecayed(values: Tensor) -> nn.Parameter:
    """A parameter that weight decay leaves alone.

    Decay pulls A and dt towards fixed time scales, not towards a simpler function; at TRM's rate (1.0) it
    would shorten every memory to a token or two.
    """
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter


def at_least_float32(x: Tensor) -> Tensor:
    """Step sizes and decays are computed in float32 where the activations are bfloat16."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
