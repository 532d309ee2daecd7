"""TrialConfig: everything that defines one trial of TRM but its seed and its device.

The defaults are the published Sudoku-Extreme recipe (arXiv 2510.04871, appendix; where paper and reference
code differ, the code's). A key's dotted path (`model.h_cycles`) is its name in YAML, in MLflow and in tables.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trm.data import AnyTaskConfig
from trm.data.sudoku import SudokuConfig
from trm.grid import Layout
from trm.mixers import AnyMixerConfig
from trm.mixers.attention import AttentionConfig

Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Below1 = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0.0)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Config):
    """The network: one block of `num_layers` layers, applied h_cycles x (l_cycles + 1) times a step."""

    hidden_size: int = Field(512, ge=1)
    num_layers: int = Field(2, ge=1)
    h_cycles: int = Field(3, ge=1)  # T in the paper
    l_cycles: int = Field(6, ge=1)  # n in the paper
    networks: Literal["shared", "separate"] = "shared"  # of z_H and z_L: one block for both, or one each
    latents: Literal["two", "single", "multi_scale"] = "two"  # states beside the answer: one, none, l_cycles
    gradient: Literal["recursion", "one_step"] = (
        "recursion"  # through the last one whole, or its last updates
    )
    act: Literal["halt", "continue", "none"] = "halt"  # adaptive computation time: what says when to halt
    expansion: Positive = 4.0  # of the SwiGLU; its width is rounded up to a multiple of 256
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
        self.mixer.layers(self.num_layers)
        return self

    @property
    def num_latents(self) -> int:
        """Latent states beside the answer."""
        return {"two": 1, "single": 0, "multi_scale": self.l_cycles}[self.latents]

    @property
    def updates_with_gradient(self) -> int:
        """How many of a supervision step's h_cycles x (l_cycles + 1) updates have one: the last so many."""
        return self.l_cycles + 1 if self.gradient == "recursion" else 2

    @property
    def learns_to_halt(self) -> bool:
        """Whether the halting head is trained."""
        return self.act != "none"

    @property
    def learns_to_continue(self) -> bool:
        """Whether q_continue is trained, at the price of a second forward pass a step."""
        return self.act == "continue" and self.halt_max_steps > 1

    @property
    def effective_depth(self) -> int:
        """Layers that a supervision step goes through (the paper's T (n + 1) n_layers)."""
        return self.h_cycles * (self.l_cycles + 1) * self.num_layers

    def check_device(self, device: str) -> None:
        """Raise ValueError where the network does not run on this device ("cpu", "cuda:0")."""
        if self.mixer.needs_gpu and not device.startswith("cuda"):
            raise ValueError(
                f"the backend in model.mixer is 'mamba_ssm', which runs on an NVIDIA GPU, but the device is "
                f"'{device}': use a GPU, or set backend to 'auto'"
            )


class LossConfig(_Config):
    kind: Literal["stablemax", "softmax"] = "stablemax"
    q_weight: float = Field(0.5, ge=0.0)


class OptimConfig(_Config):
    """AdamW for the network, SignSGD with decoupled decay for the puzzle embedding."""

    lr: Positive = 1e-4
    betas: tuple[Below1, Below1] = (0.9, 0.95)
    eps: Positive = 1e-8
    weight_decay: float = Field(1.0, ge=0.0)
    lr_warmup_steps: float = Field(2000, ge=0.0)  # optimizer steps; below 1, a share of the horizon
    lr_min_ratio: Fraction = 1.0  # cosine from lr to lr x this over the horizon; 1 = constant
    puzzle_emb_lr: Positive = 1e-4
    puzzle_emb_weight_decay: float = Field(1.0, ge=0.0)
    ema_decay: Below1 = 0.999  # 0 = no EMA


class TrainConfig(_Config):
    batch_size: int = Field(768, ge=1)
    max_samples: int = Field(50_000_000, ge=1)  # the horizon, in rows x optimizer steps
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # auto: bfloat16 on a GPU that has it
    compile: Literal["auto", "on", "off"] = "auto"  # auto: on a GPU

    @property
    def max_steps(self) -> int:
        return math.ceil(self.max_samples / self.batch_size)


class EvalConfig(_Config):
    """Val is read at intervals, on a fixed seeded subset; all of val, and test, once at the end.

    At the end the weights that did best on that subset of val are read on test too, and on `depth_rows` of
    its rows to `depth_steps` supervision steps (`trm.evaluate`). 4,096 rows tell a share to 1.5 points at
    worst, and to 128 steps are 1% of the published run's steps; all 422,786 would be as many as its training.
    """

    every_samples: int | None = Field(None, ge=1)  # None: a twentieth of the horizon
    val_rows: int = Field(2048, ge=1)
    batch_size: int = Field(1024, ge=1)
    depth_steps: int = Field(128, ge=0)  # 0, or fewer than halt_max_steps: no further than that
    depth_rows: int = Field(4096, ge=1)


class TrialConfig(_Config):
    model: ModelConfig = ModelConfig()
    data: AnyTaskConfig = SudokuConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()

    @property
    def is_extendable(self) -> bool:
        """Whether a longer run begins as this one does: rate and reports follow from the step alone."""
        is_constant = self.optim.lr_min_ratio == 1 and not 0 < self.optim.lr_warmup_steps < 1
        return is_constant and bool(self.eval.every_samples)

    @property
    def warmup_steps(self) -> int:
        """Optimizer steps of linear warm-up."""
        given = self.optim.lr_warmup_steps
        return round(given * self.train.max_steps) if given < 1 else int(given)

    @property
    def seq_len(self) -> int:
        """Tokens the block sees: the puzzle embedding's slots, then the puzzle."""
        return self.model.puzzle_emb_len + self.data.shape.seq_len

    @property
    def layout(self) -> Layout:
        """Those tokens, and the board behind them."""
        return Layout(self.seq_len, self.data.shape.grid)

    @property
    def effective_loss(self) -> LossConfig:
        """Without ACT there is no halting to learn."""
        return self.loss if self.model.learns_to_halt else self.loss.model_copy(update={"q_weight": 0.0})

    @property
    def eval_every_steps(self) -> int:
        every = self.eval.every_samples or math.ceil(self.train.max_samples / 20)
        return math.ceil(every / self.train.batch_size)  # up: a report must not miss a rung by a few rows

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
        """The config as it takes effect: trials with equal ones would be the same trial twice."""
        from trm.layers import swiglu_width

        effective = self.model_dump(mode="json")
        model = effective["model"]
        del model["expansion"]
        model["swiglu_width"] = swiglu_width(self.model.hidden_size, self.model.expansion)
        model["mixer"] = self.model.mixer.effective(
            self.model.hidden_size, self.layout, self.model.num_layers
        )
        if self.model.num_latents == 1:
            model["latents"] = "two"  # also multi_scale with one update: its one latent
        if self.model.gradient == "one_step" and self.model.l_cycles == 1:
            model["gradient"] = "recursion"  # of two updates, both have it
        if self.model.halt_max_steps == 1:  # every row halts, whatever is drawn or learned
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
        effective["optim"]["lr_warmup_steps"] = self.warmup_steps
        effective["eval"]["every_samples"] = self.eval_every_steps
        del effective["eval"]["batch_size"], effective["train"]["compile"]  # speed alone
        return effective
