"""The winner's curse: the highest of several means is above its arm's truth, as luck helped to pick it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def corrected_best(
    samples: Sequence[np.ndarray], shown: Sequence[np.ndarray] | None = None, maximise: bool = True
) -> float | None:
    """The mean of the best arm, without the luck that made it the best: cross-validated over seeds.

    Each seed in turn is left out; the arm that is best on the others is read at that seed, of which it was
    not chosen; the mean over seeds is unbiased for the arms that are so chosen (Stone 1974, "Cross-validatory
    choice"). Arms may have different numbers of values: value k of each is left out together. `shown` has the
    values that are read, such as those on test of an arm that is best on val; default: `samples`. None if
    fewer than two arms have two values.
    """
    sign = 1.0 if maximise else -1.0
    used = [
        (sign * np.asarray(values, dtype=float), np.asarray(theirs, dtype=float))
        for values, theirs in zip(samples, samples if shown is None else shown, strict=True)
        if len(values) > 1
    ]
    if len(used) < 2:
        return None
    read = []
    for place in range(max(len(values) for values, _ in used)):
        means = [
            np.delete(values, place).mean() if place < len(values) else values.mean() for values, _ in used
        ]
        _, best = used[int(np.argmax(means))]
        if place < len(best):
            read.append(best[place])
    return float(np.mean(read)) if read else None
