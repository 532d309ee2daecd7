"""Multi-head softmax attention over all tokens, as in TRM's reference implementation: no mask, no bias.

Weights start as there (`trm.layers.CastedLinear`); `out_gain`, which it lacks, is a factor of `o_proj`'s.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import CastedLinear, RotaryEmbedding, apply_rotary
from trm.mixers.base import KEY, MixerConfig

FEW = 1024  # tokens x channels of a head, up to which a CPU is faster with two plain products (measured)


class AttentionConfig(MixerConfig):
    kind: Literal["attention"] = "attention"
    num_heads: int = Field(8, ge=1)
    head_dim: int | None = Field(None, ge=2, multiple_of=2)  # None: hidden_size / num_heads
    backend: Literal["auto", "sdpa"] = (
        "auto"  # sdpa: PyTorch's fused kernel; auto: but for few tokens on a CPU
    )

    @property
    def uses_rope(self) -> bool:
        return True

    def head_width(self, hidden_size: int) -> int:
        return self.head_dim or hidden_size // self.num_heads

    @property
    def saved_by_compiling(self) -> float:
        return 0.0  # in wide networks; 0.2 at 64 channels

    def build(self, hidden_size: int, layout: Layout, scan_index: int, rope_theta: float | None) -> Attention:
        self.check(hidden_size)
        width = self.head_width(hidden_size)
        rope = None if rope_theta is None else RotaryEmbedding(width, layout.seq_len, rope_theta)
        is_plain = self.backend == "auto"
        return Attention(hidden_size, self.num_heads, width, rope, self.out_gain, is_plain_if_few=is_plain)

    def num_params(self, hidden_size: int, layout: Layout) -> int:
        return 4 * hidden_size * self.num_heads * self.head_width(hidden_size)

    def flops(self, hidden_size: int, layout: Layout) -> int:
        projections = 2 * layout.seq_len * self.num_params(hidden_size, layout)
        return projections + 2 * 2 * layout.seq_len**2 * self.num_heads * self.head_width(hidden_size)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        """Heads share the channels equally, in even widths: rotary positions turn pairs of channels."""
        if self.head_dim is None and hidden_size % (2 * self.num_heads):
            valid = [h for h in range(1, hidden_size // 2 + 1) if hidden_size % (2 * h) == 0]
            raise ValueError(
                f"{key}.num_heads is {self.num_heads}, which does not divide model.hidden_size, "
                f"{hidden_size}, into heads of an even width: "
                + (f"give one of {', '.join(map(str, valid))}" if valid else "give an even hidden_size")
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["backend"]  # another order of the same sum
        return fields | {"head_dim": self.head_width(hidden_size)}


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v per head, with rotary positions where `rope` is given (paper, section 4)."""

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        head_dim: int,
        rope: RotaryEmbedding | None,
        out_gain: float = 1.0,
        is_plain_if_few: bool = True,
    ) -> None:
        super().__init__()
        self.is_plain_if_few = is_plain_if_few
        self.num_heads = num_heads
        self.rope = rope
        self.qkv_proj = CastedLinear(hidden_size, 3 * num_heads * head_dim)
        self.o_proj = CastedLinear(num_heads * head_dim, hidden_size, gain=out_gain)

    def forward(self, hidden_states: Float[Tensor, "B L D"]) -> Float[Tensor, "B L D"]:
        parts = self.qkv_proj(hidden_states).chunk(3, dim=-1)
        q, k, v = (rearrange(part, "b l (h d) -> b h l d", h=self.num_heads) for part in parts)
        if self.rope is not None:
            q, k = apply_rotary(q, k, *self.rope())
        return self.o_proj(rearrange(self._mix(q, k, v), "b h l d -> b l (h d)"))

    def _mix(
        self, q: Float[Tensor, "B H L d"], k: Float[Tensor, "B H L d"], v: Float[Tensor, "B H L d"]
    ) -> Float[Tensor, "B H L d"]:
        length, width = q.shape[-2:]
        if self.is_plain_if_few and q.device.type == "cpu" and length * width <= FEW:
            return torch.softmax((q * width**-0.5) @ k.mT, dim=-1) @ v
        return F.scaled_dot_product_attention(q, k, v)
