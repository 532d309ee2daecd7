"""What `python -m trm evaluate` measures: accuracies by supervision step and by rating, and the overlap with
the training puzzles."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from trm.data.base import DataError, Split
from trm.data.boards.rules import Puzzles
from trm.data.boards.splits import load_splits
from trm.data.boards.task import PuzzleTask
from trm.evaluate import Z_95, curve_steps, halting_metrics, rows_by_rating, run_rows, wilson_interval
from trm.trained import Trained


def scores(trained: Trained, split: Split) -> dict[str, Any]:
    """Each accuracy as `[value, low, high]`, a share with its 95% interval over the rows.

    The cells of a row hang together: rows are what is drawn. A share of rows has Wilson's interval; the cell
    accuracy, a mean over rows, has that of `_mean_with_interval`. By step as far as `halt_max_steps`.
    """
    model, config = trained.model, trained.config
    split = Split(*(column.to(model.H_init.device) for column in split))
    steps = config.model.halt_max_steps
    rows = run_rows(model, split, config)
    by_step = [
        {"step": step, **_accuracies(rows.solved[:, step - 1], rows.cell_accuracy[:, step - 1])}
        for step in curve_steps(steps, steps)
    ]
    last, cells = rows.solved[:, -1], rows.cell_accuracy[:, -1]
    by_rating = [
        {"rating": name, "rows": int(rated.sum()), **_accuracies(last[rated], cells[rated])}
        for name, rated in rows_by_rating(config, rows.ratings)
        if rated.any()
    ]
    found: dict[str, Any] = {
        "rows": len(last),
        "weights": trained.weights,
        "step": trained.step,
        **_accuracies(last, cells),
    }
    if rows.accepted is not None:
        found[str(config.data.accepted_metric)] = _with_interval(rows.accepted)
    if config.model.learns_to_halt:
        found["q_halt_accuracy"] = _with_interval((rows.q_halt_logits >= 0) == last)
        found |= halting_metrics(rows.q_halt_logits, last)
    return {**found, "by_step": by_step, "by_rating": by_rating}


def overlap(trained: Trained, task: PuzzleTask, puzzles: Puzzles, rows: int) -> tuple[int | None, str]:
    """How many of the first `rows` puzzles are symmetries of training puzzles, None if that is not known; and
    what to say about it."""
    unknown = "whether the model was trained on some of these puzzles is not known"
    if not trained.knows_data:
        return None, f"{unknown}: a converted checkpoint does not say"
    try:
        train = load_splits(task).train
    except DataError as error:
        return None, f"{unknown}: its training data cannot be read ({error})"
    keys = task.rules.class_keys(puzzles.boards[:rows], puzzles.solutions[:rows])
    shared = int(np.isin(keys, task.rules.keys(train)).sum())
    if not shared:
        return 0, f"none of the {rows:,} puzzles is one of the training puzzles or a symmetry of one"
    return shared, (
        f"WARNING: {shared:,} of the {rows:,} puzzles are training puzzles or symmetries of them: the "
        f"accuracies are too high as a measure of unseen puzzles"
    )


def tables(found: dict[str, Any]) -> list[Table]:
    """The figures of `scores` for a terminal."""
    rows, step = found["rows"], found["step"]
    where = "" if step is None else f" of step {step:,}"
    whole = Table("metric", "value [95% interval]", title=f"{rows:,} rows, {found['weights']} weights{where}")
    for name, value in found.items():
        if isinstance(value, list) and not name.startswith("by_"):
            whole.add_row(name, _shown(value))
        elif isinstance(value, float):
            whole.add_row(name, f"{value:.4f}")
    shown = [whole]
    for group, column in (("by_step", "step"), ("by_rating", "rating")):
        table = Table(column, "rows", "exact accuracy [95% interval]", "cell accuracy [95% interval]")
        for row in found[group]:
            exact, cell = (_shown(row[name]) for name in ("exact_accuracy", "cell_accuracy"))
            table.add_row(str(row[column]), f"{row.get('rows', rows):,}", exact, cell)
        if found[group]:
            shown.append(table)
    return shown


def _shown(value: list[float]) -> str:
    return "{:.4f} [{:.4f}, {:.4f}]".format(*value)


def _accuracies(solved: Tensor, cells: Tensor) -> dict[str, list[float]]:
    return {"exact_accuracy": _with_interval(solved), "cell_accuracy": _mean_with_interval(cells)}


def _with_interval(rows: Tensor) -> list[float]:
    value = float(rows.double().mean())
    return [value, *wilson_interval(value, len(rows))]


def _mean_with_interval(values: Tensor) -> list[float]:
    """`[mean, low, high]` of values (N,) from 0 to 1: Agresti and Coull's interval (1998).

    It is the normal one after z^2 / 2 zeros and as many ones are added. Without them it has no width if all
    values agree, and is too narrow if few differ; Wilson's takes every value for 0 or 1, and is several times
    too wide for cells.
    """
    added = Z_95**2 / 2
    n = len(values) + 2 * added
    first, second = (float(values.double().pow(power).sum() + added) / n for power in (1, 2))
    half = Z_95 * math.sqrt((second - first**2) / n)
    return [float(values.double().mean()), max(0.0, first - half), min(1.0, first + half)]
