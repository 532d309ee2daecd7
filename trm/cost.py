"""Parameters and FLOPs of a configuration by formula, without allocating tensors.

FLOPs are counted as in `torch.utils.flop_counter`: 2 for each multiply-add of a matrix product, else 0.
"""

from __future__ import annotations

from trm.config import TrialConfig
from trm.grid import Layout
from trm.layers import swiglu_width
from trm.model_config import ModelConfig

CPU_FLOPS_PER_S = 30e9  # of a training step on one core, with all that is no matrix product
COMPILING_S = 90.0  # a network's graphs on one core at most, with nothing in the cache


def num_params(config: TrialConfig) -> int:
    """Number of trainable weights without the puzzle embedding, as the paper counts them."""
    model = config.model
    hidden_size = model.hidden_size
    layers = [layer for depth in model.depths for layer in model.mixer.layers(depth)]
    mixing = sum(mixer.num_params(hidden_size, config.layout) for layer in layers for mixer, _ in layer)
    # The convolution's two taps and its bias, if there is one, are a weight a channel each.
    swiglu = 3 * (hidden_size + (model.swiglu == "conv")) * swiglu_width(hidden_size, model.expansion)
    embed_tokens = lm_head = config.data.shape.vocab_size * hidden_size
    embed_pos = config.seq_len * hidden_size if model.pos_encodings == "learned" else 0
    q_head = 2 * hidden_size + 2
    return mixing + len(layers) * swiglu + embed_tokens + embed_pos + lm_head + q_head


def block_flops(model: ModelConfig, layout: Layout, num_layers: int) -> int:
    """FLOPs of one application of a block of so many layers to one row."""
    mixers = [mixer for layer in model.mixer.layers(num_layers) for mixer, _ in layer]
    mixing = sum(mixer.flops(model.hidden_size, layout) for mixer in mixers)
    swiglu = 2 * layout.seq_len * 3 * model.hidden_size * swiglu_width(model.hidden_size, model.expansion)
    return mixing + num_layers * swiglu


def _recursions_flops(config: TrialConfig, number: int, updates: int) -> int:
    """Of so many recursions, each with so many updates of z_L and one of z_H."""
    of_z_L, of_z_H = (
        block_flops(config.model, config.layout, config.model.depths[network]) for network in (0, -1)
    )
    return number * (updates * of_z_L + of_z_H)


def forward_flops(config: TrialConfig) -> int:
    """FLOPs of one row in the forward pass of a supervision step: all recursions, and the two heads."""
    recursions = _recursions_flops(config, config.model.h_cycles, config.model.l_cycles)
    return recursions + _head_flops(config)


def flops_per_sample(config: TrialConfig) -> int:
    """Training FLOPs of one row in one supervision step.

    Those of the forward pass, and twice those of the part with a gradient (the last recursion, unless the
    config says otherwise, and the heads) for the backward pass. If q_continue is learned, they include a
    second forward pass without the output head. The optimizer's are left out: by count Muon's are 0.2% of a
    step of the published recipe, and 2% of one of mini_6x6.
    """
    with_gradient = _recursions_flops(config, *config.model.backpropagated)
    training = forward_flops(config) + 2 * (with_gradient + _head_flops(config))
    if config.model.learns_to_continue:
        training += forward_flops(config) - _lm_head_flops(config)
    return training


def compiling_pays(config: TrialConfig) -> bool:
    """Whether `torch.compile` saves more time on a CPU core than it costs, over the whole horizon.

    A function of the config alone, so that a resumed trial decides as it did at first. Its figures are
    measured (docs/performance.md).
    """
    steps_s = config.train.max_steps * config.train.batch_size * flops_per_sample(config) / CPU_FLOPS_PER_S
    return steps_s * config.model.mixer.saved_by_compiling > COMPILING_S


def _head_flops(config: TrialConfig) -> int:
    return _lm_head_flops(config) + 2 * config.model.hidden_size * 2


def _lm_head_flops(config: TrialConfig) -> int:
    shape = config.data.shape
    return 2 * config.model.hidden_size * shape.seq_len * shape.vocab_size
