"""What every token mixer's Config must offer. The Module beside it maps (B, L, D) to (B, L, D)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from torch import nn

    from trm.layers import RotaryEmbedding

Readout = Literal["first", "last"]


class MixerConfig(BaseModel, ABC):
    """Hyper-parameters of one kind of mixer; `kind` is its name in YAML, in MLflow and in tables.

    Everything but `build` is plain arithmetic, so that a sweep is planned without making a tensor.
    D is `hidden_size` (channels) and L is `seq_len` (tokens, the puzzle embedding's slots included).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str
    uses_rope: ClassVar[bool] = False
    norm_axis: ClassVar[Literal["channel", "token"]] = "channel"  # axis of the block's norm after the mixer

    @abstractmethod
    def build(
        self, hidden_size: int, seq_len: int, layer_idx: int, rope: RotaryEmbedding | None
    ) -> nn.Module:
        """The module of layer `layer_idx`, with its parameters initialised from torch's current generator."""

    @abstractmethod
    def num_params(self, hidden_size: int, seq_len: int) -> int:
        """Trainable parameters of one module."""

    @abstractmethod
    def flops(self, hidden_size: int, seq_len: int) -> int:
        """Forward FLOPs of one row, counted as `torch.utils.flop_counter` does (2 per multiply-add)."""

    def check(self, hidden_size: int) -> None:
        """Raise ValueError where the mixer cannot be built at this width."""

    @property
    def needs_gpu(self) -> bool:
        """Whether it runs on an NVIDIA GPU only."""
        return False

    def head_dim(self, hidden_size: int) -> int:
        """Channels that rotary positions turn together, where the mixer uses them."""
        return hidden_size

    def effective(self, hidden_size: int, seq_len: int, num_layers: int) -> dict[str, Any]:
        """The config as it takes effect: two configs that build the same function give equal dicts."""
        return self.model_dump(mode="json")

    def readout(self, num_layers: int) -> Readout:
        """The position that the halting head reads; it must be able to see the whole puzzle."""
        return "first"
