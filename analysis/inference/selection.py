"""The winner's curse: the highest of several means is above its arm's truth, as luck helped to pick it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def corrected_best(samples: Sequence[np.ndarray], maximise: bool = True) -> float | None:
    """The mean of the best arm, without the luck that made it the best: cross-validated over seeds.

    Each seed in turn is left out; the arm that is best on the others is read at that seed, of which it was
    not chosen; the mean over seeds is unbiased for the arms that are so chosen (Stone 1974, "Cross-validatory
    choice"). Arms may have different numbers of values: value k of each is left out together. None if fewer
    than two arms have two values.
    """
    sign = 1.0 if maximise else -1.0
    used = [sign * np.asarray(values, dtype=float) for values in samples if len(values) > 1]
    if len(used) < 2:
        return None
    read = []
    for place in range(max(map(len, used))):
        means = [np.delete(values, place).mean() if place < len(values) else values.mean() for values in used]
        best = used[int(np.argmax(means))]
        if place < len(best):
            read.append(best[place])
    return float(sign * np.mean(read)) if read else None
