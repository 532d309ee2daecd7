"""What `trial.report` accepts: numbers under names that can be columns, `step` and `samples` among them.

Everything else is refused at once with WrongReport, before it reaches the journal.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

from sweeps.execute.failure import WrongReport
from sweeps.space.names import RESERVED, name_problem, same_name

MAX_STEP = 2**63  # the steps of MLflow's stores are below it


def checked(
    metrics: Mapping[str, Any], last_step: float, factors: Collection[str], tuned: Collection[str]
) -> dict[str, float]:
    """The metrics as floats. `last_step` is the last step that this attempt has reported, -1 before the
    first; no metric may have the name of one of the `factors` or `tuned` values.

    A value may be a number of Python, or an array or tensor with one element. NaN and infinity are accepted,
    but not for `step` and `samples`. Raises WrongReport.
    """
    if not isinstance(metrics, Mapping):
        raise WrongReport(f"trial.report: the metrics must be a dict; got {_shown(metrics)}")
    for name in metrics:
        _check_name(name, factors, tuned)
    values = {name: _number(name, value) for name, value in metrics.items()}
    missing = {"step", "samples"} - values.keys()
    if missing:
        raise WrongReport(f"trial.report needs {sorted(missing)} among its metrics; got {sorted(values)}")
    step, samples = values["step"], values["samples"]
    if not (0 <= step < MAX_STEP and step.is_integer()):
        raise WrongReport(f"trial.report: step is {step:g}: it must be a whole number from 0 to 2**63 - 1")
    if not (0 <= samples < math.inf):
        raise WrongReport(f"trial.report: samples is {samples:g}: it must be a finite number, 0 or more")
    if step <= last_step:
        raise WrongReport(
            f"trial.report: step {step:.0f} comes after step {last_step:.0f}: report each step once, in "
            f"rising order, with all of its metrics"
        )
    return values


def _check_name(name: Any, factors: Collection[str], tuned: Collection[str]) -> None:
    if not isinstance(name, str):
        raise WrongReport(f"trial.report: the name of a metric must be a string; got {_shown(name)}")
    why = name_problem(name, RESERVED)
    if not why and name in {*factors, *tuned}:
        why = same_name(name, factors)
    if why:
        raise WrongReport(f"trial.report: the metric {name!r} {why}")


def _number(name: str, given: Any) -> float:
    value = given
    if hasattr(value, "item"):  # a scalar, array or tensor of numpy, torch and others
        try:
            value = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise WrongReport(
                f"trial.report: {name} must be one number; got {_shown(given)}: report its mean, for example"
            ) from error
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        raise WrongReport(f"trial.report: {name} must be a number; got {_shown(given)}: convert it")
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise WrongReport(f"trial.report: {name} must be a number; got {_shown(given)} ({error})") from error


def _shown(value: Any) -> str:
    """The value and its type, such as "'12.5' (str)"."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # an error in the value's own __repr__
        return type(value).__name__
    return f"{text if len(text) <= 60 else f'{text[:57]}...'} ({type(value).__name__})"
