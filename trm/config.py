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
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from trm.data import AnyTaskConfig
from trm.data.sudoku import SudokuConfig
from trm.grid import Layout
from trm.mixers.mamba2 import with_first_norm
from trm.model_config import Below1, Fraction, ModelConfig, Positive
from trm.settings.versions import Config, with_new_names


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
