"""ModelConfig: the keys of the network and of its recursion, under `model` in a trial's config."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from trm.mixers import AnyMixerConfig
from trm.mixers.attention import AttentionConfig
from trm.mixers.base import HaltingPosition
from trm.settings.versions import Config

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class ModelConfig(Config):
    """The network: one block of `num_layers` layers, applied h_cycles x (l_cycles + 1) times a step.

    With `networks: separate` there are two: a block of `num_layers` layers updates z_L, and one of `h_layers`
    layers updates z_H (L_layers and H_layers in HRM's code).
    """

    added = (
        "h_layers", "gradient_h_cycles", "gradient_l_cycles", "swiglu", "damping", "latent_noise",
        "latent_dropout",
    )  # fmt: skip

    hidden_size: int = Field(512, ge=1)
    num_layers: int = Field(2, ge=1)
    h_layers: int | None = Field(None, ge=1)  # of z_H's network, where networks are separate; None: as many
    h_cycles: int = Field(3, ge=1)  # T in the paper
    l_cycles: int = Field(6, ge=1)  # n in the paper
    networks: Literal["shared", "separate"] = "shared"  # one block updates z_H and z_L, or each has its own
    latents: Literal["two", "single", "multi_scale"] = "two"  # states beside the answer: one, none, l_cycles
    # Backpropagate through all updates of the last recursion, or through its last two updates.
    gradient: Literal["recursion", "one_step"] = "recursion"
    # The same as numbers: the last recursions, and of each of these the last updates of z_L and that of z_H.
    # None: one recursion, all updates.
    gradient_h_cycles: int | None = Field(None, ge=1)
    gradient_l_cycles: int | None = Field(None, ge=1)
    act: Literal["halt", "continue", "none"] = "halt"  # adaptive computation time, see `trm.model`
    expansion: Positive = 4.0  # of the SwiGLU; its width is rounded up to a multiple of 256
    swiglu: Literal["plain", "conv"] = "plain"  # conv: with a short convolution over tokens, see `trm.layers`
    damping: Below1 = 0.0  # share of a state that an update keeps
    latent_noise: float = Field(0.0, ge=0.0)  # std of the noise on the latents before a training step
    latent_dropout: Below1 = 0.0  # share of the latents' entries that are 0 in a training step
    mixer: AnyMixerConfig = AttentionConfig()
    pos_encodings: Literal["rope", "learned", "none"] = "rope"
    rope_theta: Positive = 10000.0
    puzzle_emb_len: int = Field(16, ge=0)  # tokens before the puzzle; the first one holds the embedding
    halt_max_steps: int = Field(16, ge=1)
    halt_exploration_prob: Fraction = 0.1
    halt_bias: float = -5.0

    @model_validator(mode="after")
    def _mixer_fits(self) -> Self:
        self.mixer.check(self.hidden_size)
        for key, depth in zip(("num_layers", "h_layers"), self.depths, strict=False):
            self.mixer.layers(depth, f"model.{key}")
        return self

    @model_validator(mode="after")
    def _only_separate_networks_have_two_depths(self) -> Self:
        if self.h_layers is not None and self.networks == "shared":
            raise ValueError(
                f"model.h_layers is {self.h_layers}, but under model.networks 'shared' one network of "
                f"model.num_layers layers updates both states: set networks to separate, or drop h_layers"
            )
        return self

    @model_validator(mode="after")
    def _gradient_fits_the_recursion(self) -> Self:
        for mine, whole in (("gradient_h_cycles", self.h_cycles), ("gradient_l_cycles", self.l_cycles)):
            given = getattr(self, mine)
            if given is None:
                continue
            if self.gradient == "one_step":
                raise ValueError(
                    f"model.{mine} is {given}, but model.gradient is 'one_step', which is gradient_h_cycles "
                    f"1 and gradient_l_cycles 1: drop one of the two keys"
                )
            if given > whole:
                key = mine.removeprefix("gradient_")
                raise ValueError(f"model.{mine} is {given}, but model.{key} is {whole}: give 1 to {whole}")
        if self.latents == "single" and self.backpropagated[0] > 1 and self.backpropagated[1] < self.l_cycles:
            raise ValueError(
                f"model.gradient_h_cycles is {self.gradient_h_cycles}, but under model.latents 'single' the "
                f"updates that gradient_l_cycles {self.gradient_l_cycles} leaves without a gradient cut off "
                f"all recursions before the last: drop gradient_l_cycles, or set gradient_h_cycles to 1"
            )
        return self

    @model_validator(mode="after")
    def _only_latents_are_disturbed(self) -> Self:
        for key in ("latent_noise", "latent_dropout"):
            if self.latents == "single" and getattr(self, key):
                raise ValueError(
                    f"model.{key} is {getattr(self, key)}, but under model.latents 'single' there is no "
                    f"latent beside the answer: set it to 0, or latents to two"
                )
        return self

    @property
    def depths(self) -> tuple[int, ...]:
        """Layers of each network: of the one that updates both states, or of those of z_L and z_H."""
        if self.networks == "shared":
            return (self.num_layers,)
        return self.num_layers, self.h_layers or self.num_layers

    @property
    def halting_position(self) -> HaltingPosition:
        """The position of z_H that the halting head reads; it must have seen the whole puzzle.

        Every position has, as soon as one of the networks reads backwards too: z_H is made from a z_L that
        the other network has just made from every token. Else it is the last one.
        """
        positions = [self.mixer.halting_position(depth) for depth in self.depths]
        return "first" if "first" in positions else "last"

    @property
    def notes(self) -> list[str]:
        """What is allowed, but may not be what was meant, as sentences for a preview."""
        layers = [layer for depth in self.depths for layer in self.mixer.layers(depth)]
        mixers = [placed.mixer for layer in layers for placed in layer]
        notes = list(dict.fromkeys(note for mixer in mixers for note in mixer.notes))
        if self.halting_position == "last" and any(mixer.alternates for mixer in mixers):
            notes.append(
                "with direction alternating every second scan reads backwards, and this network has no "
                "second one: it reads forwards only; bidirectional_tied reads both ways in one layer"
            )
        return notes

    @property
    def num_latents(self) -> int:
        """Latent states beside the answer."""
        return {"two": 1, "single": 0, "multi_scale": self.l_cycles}[self.latents]

    @property
    def backpropagated(self) -> tuple[int, int]:
        """K_H and K_L: the gradient goes through so many recursions at the end of a supervision step, and in
        each of these through so many updates of z_L at its end, and through the update of z_H."""
        updates = 1 if self.gradient == "one_step" else self.gradient_l_cycles or self.l_cycles
        return self.gradient_h_cycles or 1, updates

    @property
    def disturbs_latents(self) -> bool:
        """Whether a training step draws noise or dropout for the latents."""
        return bool(self.latent_noise or self.latent_dropout)

    @property
    def learns_to_halt(self) -> bool:
        """Whether the halting head is trained."""
        return self.act != "none"

    @property
    def learns_to_continue(self) -> bool:
        """Whether q_continue is trained, which takes a second forward pass in each step."""
        return self.act == "continue" and self.halt_max_steps > 1

    @property
    def effective_depth(self) -> int:
        """Layers applied in a supervision step: the paper's T (n + 1) n_layers for networks of one depth."""
        return self.h_cycles * (self.l_cycles * self.depths[0] + self.depths[-1])

    def check_device(self, device: str) -> None:
        """Raise ValueError if the network does not run on this device ("cpu", "cuda:0")."""
        if self.mixer.needs_gpu and not device.startswith("cuda"):
            raise ValueError(
                f"the backend in model.mixer is 'mamba_ssm', which runs on an NVIDIA GPU, but the device is "
                f"'{device}': use a GPU, or set backend to 'auto'"
            )
