"""A trainer whose data have a seed, and are refused for one: `tests.sweeps.seeded_trainer:train`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UNUSABLE = 13


class Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    seed: int = Field(0, lt=1000)
    noise: float = 0.0
    name: str = "rows"
    shuffled: bool = False


class A(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["a"] = "a"
    restart: int = 0


class B(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["b"]


class SeededConfig(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    model: Annotated[A | B, Field(discriminator="kind")] = A()
    data: Data = Data()
    lr: float = 0.1


def train(config: SeededConfig, trial: Any) -> None:
    trial.report({"step": 1, "samples": 10, "accuracy": config.data.seed / 1000})


def describe(config: SeededConfig) -> dict[str, Any]:
    return {"metrics": ["accuracy"], "num_params": 7}


def check(config: SeededConfig) -> str:
    if config.data.seed == UNUSABLE:
        raise ValueError(f"no rows are left with seed {UNUSABLE}")
    return f"hash-of-{config.data.seed}"
