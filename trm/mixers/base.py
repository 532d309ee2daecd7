"""What every token mixer's Config must offer. The Module beside it maps (B, L, D) to (B, L, D)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from trm.grid import Grid, Layout

if TYPE_CHECKING:
    from torch import nn

Readout = Literal["first", "last"]
KEY = "model.mixer"  # where a mixer stands in the config, for messages


class Placed(NamedTuple):
    """A mixer at its place in a block, which is what alternating ones go by."""

    mixer: MixerConfig
    place: int  # scans (state-space models) before it in the block


class ArrangementConfig(BaseModel, ABC):
    """Which mixers stand before the SwiGLU of each layer of a block; `kind` is its name in YAML, in MLflow
    and in tables.

    All of this is plain arithmetic, so that a sweep is planned without making a tensor.
    D is `hidden_size` (channels) and L is `seq_len` (tokens, the puzzle embedding's slots included).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: str

    @abstractmethod
    def sublayers(self, layer_idx: int) -> tuple[MixerConfig, ...]:
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

    def layers(self, num_layers: int) -> list[list[Placed]]:
        """The mixers of each layer. Raises ValueError where they do not come out even."""
        layers, place = [], 0
        for layer_idx in range(num_layers):
            layer = []
            for mixer in self.sublayers(layer_idx):
                layer.append(Placed(mixer, place))
                place += mixer.num_scans
            layers.append(layer)
        return layers

    def effective(self, hidden_size: int, layout: Layout, num_layers: int) -> list[list[dict[str, Any]]]:
        """The mixers of each layer as they take effect: equal ones where the same function is built."""
        return [
            [mixer.effective_at(place, hidden_size, layout) for mixer, place in layer]
            for layer in self.layers(num_layers)
        ]

    def readout(self, num_layers: int) -> Readout:
        """The position that the halting head reads; it must be able to see the whole puzzle.

        Where all is read forwards, that is the last one; as soon as something is read backwards as well, or
        in both ways at once, it is every one. Orders of reading begin and end at the same tokens.
        """
        placed = [each for layer in self.layers(num_layers) for each in layer]
        backwards = any(any(mixer.reversals(place)) for mixer, place in placed)
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


class MixerConfig(ArrangementConfig):
    """Hyper-parameters of a mixer, which by itself is the arrangement that has it in every layer."""

    norm_axis: ClassVar[Literal["channel", "token"]] = "channel"  # axis of the block's norm after the mixer

    @abstractmethod
    def build(self, hidden_size: int, layout: Layout, place: int, rope_theta: float | None) -> nn.Module:
        """The module, with its parameters initialised from torch's current generator.

        `place` as in `Placed`; `rope_theta` is None where there are no rotary positions.
        """

    @abstractmethod
    def num_params(self, hidden_size: int, seq_len: int) -> int:
        """Trainable parameters of one module."""

    @abstractmethod
    def flops(self, hidden_size: int, seq_len: int) -> int:
        """Forward FLOPs of one row, counted as `torch.utils.flop_counter` does (2 per multiply-add)."""

    def sublayers(self, layer_idx: int) -> tuple[MixerConfig, ...]:
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
    def num_scans(self) -> int:
        """State-space models in it."""
        return 0

    def reversals(self, place: int) -> tuple[bool, ...]:
        """For each reading of the tokens, whether it runs from last to first; both, where all see all."""
        return (False, True)

    def effective_at(self, place: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        """The config as it takes effect at its place."""
        return self.model_dump(mode="json")
