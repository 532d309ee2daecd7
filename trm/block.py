"""The network that `trm.model` applies recursively: layers of token mixers and a SwiGLU.

Shapes: B rows, S tokens (the puzzle embedding's slots included), D channels.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from trm.grid import Layout
from trm.layers import ConvSwiGLU, SwiGLU, rms_norm
from trm.mixers.base import PlacedMixer
from trm.model_config import ModelConfig


class Layer(nn.Module):
    """Post-norm: h = norm(h + mixer(h)) for each mixer of the layer, then h = norm(h + SwiGLU(h)).

    Most layers have one mixer. The norms have no weights.
    """

    def __init__(self, config: ModelConfig, layout: Layout, mixers: list[PlacedMixer]) -> None:
        super().__init__()
        rope_theta = config.rope_theta if config.pos_encodings == "rope" else None
        self.mixers = nn.ModuleList(
            mixer.build(config.hidden_size, layout, scan_index, rope_theta) for mixer, scan_index in mixers
        )
        swiglu = ConvSwiGLU if config.swiglu == "conv" else SwiGLU
        self.mlp = swiglu(config.hidden_size, config.expansion)
        # The reference normalises the MLP mixer's output while it is transposed: over the tokens.
        self.mixer_norm_dims = [-2 if mixer.norm_axis == "token" else -1 for mixer, _ in mixers]

    def forward(self, hidden_states: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
        for mixer, dim in zip(self.mixers, self.mixer_norm_dims, strict=True):
            hidden_states = rms_norm(hidden_states + mixer(hidden_states), dim=dim)
        return rms_norm(hidden_states + self.mlp(hidden_states))


class Block(nn.Module):
    """`num_layers` layers; `injection` is added to the input of the first one."""

    def __init__(self, config: ModelConfig, layout: Layout, num_layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(config, layout, mixers) for mixers in config.mixer.layers(num_layers)
        )

    def forward(
        self, hidden_states: Float[Tensor, "B S D"], injection: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B S D"]:
        hidden_states = hidden_states + injection
        for layer in self.layers:
            hidden_states = layer(hidden_states)
        return hidden_states
