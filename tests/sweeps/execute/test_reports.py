"""What a trainer may report, and what it is told otherwise."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from sweeps.execute.failure import WrongReport
from sweeps.execute.reports import checked

GOOD: dict[Any, Any] = {"step": 1, "samples": 10, "accuracy": 0.5}


def check(last_step: float = -1, **changes: Any) -> dict[str, float]:
    return checked({**GOOD, **changes}, last_step, ["width"], ["optim.lr"])


@pytest.mark.parametrize(
    "value",
    [
        0.5, Fraction(1, 2), Decimal("0.5"), np.float32(0.5), np.float64(0.5), np.array(0.5),
        torch.tensor(0.5), torch.tensor([0.5], requires_grad=True),
    ],
    ids=repr,
)  # fmt: skip
def test_a_number_of_any_kind_is_taken(value: Any) -> None:
    assert check(accuracy=value)["accuracy"] == 0.5
    assert type(check(accuracy=value)["accuracy"]) is float


def test_whole_numbers_of_numpy_and_torch_are_steps() -> None:
    values = check(step=np.int64(3), samples=torch.tensor(30))
    assert (values["step"], values["samples"]) == (3.0, 30.0)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"accuracy": "12.5"}, r"accuracy must be a number; got '12.5' \(str\)"),
        ({"accuracy": True}, r"accuracy must be a number; got True \(bool\)"),
        ({"accuracy": np.bool_(True)}, "accuracy must be a number"),
        ({"accuracy": None}, r"accuracy must be a number; got None \(NoneType\)"),
        ({"accuracy": 1j}, "accuracy must be a number"),
        ({"accuracy": 10**400}, "accuracy must be a number"),
        ({"accuracy": [0.5]}, r"accuracy must be a number; got \[0.5\] \(list\)"),
        ({"accuracy": np.array([0.5, 0.6])}, r"accuracy must be one number; got .*ndarray"),
        ({"accuracy": torch.tensor([0.5, 0.6])}, r"accuracy must be one number; got .*Tensor"),
        ({"step": 1.2}, r"step is 1.2: it must be a whole number"),
        ({"step": -1}, "step is -1"),
        ({"step": 2**63 - 1}, "step is 9.22337e"),  # 2**63 as a float
        ({"step": float("nan")}, "step is nan"),
        ({"samples": -1}, "samples is -1"),
        ({"samples": float("inf")}, "samples is inf"),
        ({"width": 3}, "the metric 'width' is also the name of ablate.width"),
        ({"optim.lr": 3}, "the metric 'optim.lr' is also the name of tune.optim.lr"),
        ({"arm": 3}, "the metric 'arm' is a column of the tables"),
        ({"../x": 3}, "the metric '../x' is not a name that MLflow accepts"),
        ({".": 3}, "the metric '.' is not a name that MLflow accepts"),
    ],
)
def test_what_is_no_metric_is_refused_with_its_name(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongReport, match=words):
        check(**changes)


def test_a_name_must_be_a_string_and_the_metrics_a_dict() -> None:
    with pytest.raises(WrongReport, match=r"the name of a metric must be a string; got 1 \(int\)"):
        checked({**GOOD, 1: 0.5}, -1, [], [])
    with pytest.raises(WrongReport, match="must be a dict"):
        checked([("step", 1)], -1, [], [])  # type: ignore[arg-type]
    with pytest.raises(WrongReport, match=r"needs \['samples'\]"):
        checked({"step": 1, "accuracy": 0.5}, -1, [], [])


@pytest.mark.parametrize("step", [2, 1])
def test_steps_rise(step: int) -> None:
    with pytest.raises(WrongReport, match=f"step {step} comes after step 2: report each step once"):
        check(last_step=2, step=step)
    assert check(last_step=2, step=3)["step"] == 3


def test_a_metric_that_is_not_finite_is_no_error() -> None:
    assert np.isnan(check(accuracy=float("nan"))["accuracy"])  # the trial has diverged


def test_a_value_that_cannot_be_shown_is_refused_all_the_same() -> None:
    class Odd:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(WrongReport, match="accuracy must be a number; got Odd"):
        check(accuracy=Odd())
