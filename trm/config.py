"""TrialConfig: everything that defines one trial of TRM except its seed and its device.

The defaults are the published Sudoku-Extreme recipe (arXiv 2510.04871, appendix). Where paper and reference
code differ, the defaults follow the code (50 million samples, for example). Deviations from it: the optimizer
is the paper's AdamW, not the code's AdamATan2; the puzzles are a seeded draw with a validation set, where the
code draws without a seed and selects on test. Weights start as in the code, linear maps also in mixers that
come from elsewhere (docs/mixers.md).

A key's dotted path (`model.h_cycles`) is its name in YAML, in MLflow and in tables.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trm.data import AnyTaskConfig
from trm.data.sudoku import SudokuConfig
from trm.grid import Layout
from trm.mixers import AnyMixerConfig
from trm.mixers.attention import AttentionConfig
from trm.mixers.base import HaltingPosition
from trm.mixers.mamba2 import with_first_norm
from trm.settings.versions import Config, with_new_names

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


class LossConfig(Config):
    kind: Literal["stablemax", "softmax"] = "stablemax"
    q_weight: float = Field(0.5, ge=0.0)


class OptimConfig(Config):
    """AdamW for the network, SignSGD with decoupled weight decay for the puzzle embedding.

    `muon` takes over the blocks' matrices from AdamW (`trm.optim`), at the same rate and weight decay.

    AdamW and its betas are the paper's. The reference code has AdamATan2 (arXiv 2407.05872) with the same
    rate, betas and weight decay, and therefore no eps; here it is PyTorch's default.
    """

    added = ("kind", "momentum", "clip_norm")

    kind: Literal["adamw", "muon"] = "adamw"
    momentum: Below1 = 0.95  # of Muon
    clip_norm: Positive | None = None  # most norm of the network's gradient in a step; None: any
    lr: Positive = 1e-4
    betas: tuple[Below1, Below1] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: float = Field(1.0, ge=0.0)
    lr_warmup_steps: float = Field(2000, ge=0.0)  # optimizer steps; a number below 1: a share of the horizon
    lr_min_ratio: Fraction = 1.0  # cosine decay to lr x this at the horizon; 1: constant
    puzzle_emb_lr: Positive = 1e-4
    puzzle_emb_weight_decay: float = Field(1.0, ge=0.0)
    ema_decay: Below1 = 0.999  # 0: no EMA


class TrainConfig(Config):
    added = ("micro_batch",)

    batch_size: int = Field(768, ge=1)
    max_samples: int = Field(50_000_000, ge=1)  # the horizon, in rows x optimizer steps
    micro_batch: int | None = Field(None, ge=1)  # rows at a time in a step, to save memory; None: all
    # auto: bfloat16 on a GPU that supports it, else float32; tf32: float32 with matrix products in TF32
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    compile: Literal["auto", "on", "off"] = "auto"  # auto: where it pays (`trm.cost.compiling_pays`)

    @property
    def max_steps(self) -> int:
        return math.ceil(self.max_samples / self.batch_size)

    @property
    def rows_at_once(self) -> int:
        """Rows of one forward and backward pass."""
        return self.micro_batch or self.batch_size

    @model_validator(mode="after")
    def _micro_batches_fill_the_batch(self) -> Self:
        if self.batch_size % self.rows_at_once:
            raise ValueError(
                f"train.micro_batch is {self.micro_batch}, which does not divide train.batch_size "
                f"({self.batch_size}): give a divisor of it"
            )
        return self


class EvalConfig(Config):
    """At intervals a fixed seeded subset of val is evaluated; all of val, and test, only at the end.

    At the end, test is also evaluated with the weights that were best on that subset of val, and `depth_rows`
    rows of test are run to `depth_steps` supervision steps (`trm.evaluate`). With 4,096 rows the 95% interval
    of a share is +-1.5 points at most. Rows x steps is 1% of the published run's samples; for all 422,786
    test rows it would be as many as in training.
    """

    added = ("raw_weights",)

    every_samples: int | None = Field(None, ge=1)  # None: a twentieth of the horizon
    val_rows: int = Field(2048, ge=1)
    batch_size: int = Field(1024, ge=1)  # compiled, it is the rows of a training pass instead
    raw_weights: Literal["last", "every"] = "last"  # the reports that also have val with the raw weights
    depth_steps: int = Field(128, ge=0)  # raised to halt_max_steps if it is smaller
    depth_rows: int = Field(4096, ge=1)


NO_EFFECT = (("eval", "batch_size"), ("eval", "raw_weights"), ("train", "compile"), ("train", "micro_batch"))


class TrialConfig(Config):
    renamed: ClassVar = {"out_proj_gain": "out_gain"}  # old names of keys, at any depth, that are still read

    model: ModelConfig = ModelConfig()
    data: AnyTaskConfig = SudokuConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @classmethod
    def recorded(cls, content: Any) -> Self:
        """The config that a checkpoint has, also one of an older version. Raises ValidationError."""
        return cls.model_validate(with_first_norm(content))

    @model_validator(mode="before")
    @classmethod
    def _read_old_names(cls, content: Any) -> Any:
        return with_new_names(content, cls)

    @property
    def is_extendable(self) -> bool:
        """Whether a longer run starts with the same steps: rate and reports depend on the step alone."""
        is_constant = self.optim.lr_min_ratio == 1 and not 0 < self.optim.lr_warmup_steps < 1
        return is_constant and bool(self.eval.every_samples)

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of linear warm-up."""
        steps = self.optim.lr_warmup_steps
        return round(steps * self.train.max_steps) if steps < 1 else int(steps)

    @property
    def seq_len(self) -> int:
        """Tokens in the block's input: the puzzle embedding's slots, then the puzzle."""
        return self.model.puzzle_emb_len + self.data.shape.seq_len

    @property
    def layout(self) -> Layout:
        """The number of tokens, and the board that the last ones are."""
        return Layout(self.seq_len, self.data.shape.grid)

    @property
    def effective_loss(self) -> LossConfig:
        """The loss settings; without ACT the halting head is not trained, and `q_weight` is 0."""
        return self.loss if self.model.learns_to_halt else self.loss.model_copy(update={"q_weight": 0.0})

    @property
    def eval_every_steps(self) -> int:
        every = self.eval.every_samples or math.ceil(self.train.max_samples / 20)
        # Rounded up, or a report could come a few rows before a scheduler's rung and miss it.
        return math.ceil(every / self.train.batch_size)

    @model_validator(mode="after")
    def _mixer_fits_the_board(self) -> Self:
        self.model.mixer.check_grid(self.data.shape.grid)
        return self

    @model_validator(mode="after")
    def _warmup_is_shorter_than_the_run(self) -> Self:
        if self.warmup_steps >= self.train.max_steps:
            raise ValueError(
                f"optim.lr_warmup_steps is {self.warmup_steps}, but the run has {self.train.max_steps} "
                f"optimizer steps (train.max_samples / train.batch_size): give a share of the run such as "
                f"0.05, or lengthen it"
            )
        return self

    def effective(self) -> dict[str, Any]:
        """The config reduced to what has an effect: two trials with equal ones are the same trial."""
        from trm.layers import swiglu_width

        effective = self.model_dump(mode="json")
        model = effective["model"]
        del model["expansion"]
        model["swiglu_width"] = swiglu_width(self.model.hidden_size, self.model.expansion)
        width, (depth, *more) = self.model.hidden_size, self.model.depths
        model["mixer"] = self.model.mixer.effective(width, self.layout, depth)
        model.pop("h_layers", None)
        if more and more != [depth]:
            model["mixer_H"] = self.model.mixer.effective(width, self.layout, more[0])
        if self.model.num_latents == 1:
            model["latents"] = "two"  # multi_scale with l_cycles 1 has one latent too
        recursions, updates = self.model.backpropagated
        for key in ("gradient_h_cycles", "gradient_l_cycles"):
            model.pop(key, None)
        if recursions == 1 and updates in (1, self.model.l_cycles):
            model["gradient"] = "recursion" if updates == self.model.l_cycles else "one_step"
        else:
            model["gradient"] = [recursions, updates]
        if self.model.halt_max_steps == 1:  # every row halts after its only step
            del model["halt_exploration_prob"]
            model["act"] = "none" if self.model.act == "none" else "halt"
        if self.model.act == "none":
            for unused in ("halt_exploration_prob", "halt_bias"):
                model.pop(unused, None)
        effective["loss"]["q_weight"] = self.effective_loss.q_weight
        if self.model.pos_encodings == "rope" and not self.model.mixer.uses_rope:
            model["pos_encodings"] = "none"
        if model["pos_encodings"] != "rope":
            del model["rope_theta"]
        if self.model.puzzle_emb_len == 0:
            del effective["optim"]["puzzle_emb_lr"], effective["optim"]["puzzle_emb_weight_decay"]
        if self.optim.kind == "adamw":
            effective["optim"].pop("momentum", None)
        effective["optim"]["lr_warmup_steps"] = self.warmup_steps
        effective["eval"]["every_samples"] = self.eval_every_steps
        # These change speed and memory, or what is reported, and no result.
        for group, key in NO_EFFECT:
            effective[group].pop(key, None)
        return effective
