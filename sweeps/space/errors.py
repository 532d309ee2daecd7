"""The error for bad input by the user, raised before anything is started or written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from analysis.format import NAMED


class SpecError(ValueError):
    """Bad input. The message names the file, the key and the value, what is allowed, and what to do."""


class SpecErrors:
    """Collects the errors of several arms, to raise them as one.

        errors = SpecErrors()
        for arm in arms:
            with errors.of(f"arm {arm.name}"):
                ...  # what may raise SpecError
        errors.raise_any()

    Arms with the same error share its text: a factor's bad level is in each of its combinations.
    """

    def __init__(self) -> None:
        self._found: dict[str, tuple[str, set[str]]] = {}  # without the arm -> the first text, the arms

    @contextmanager
    def of(self, arm: str) -> Iterator[None]:
        """Keep a SpecError that is raised in the block. `arm` is how its text names the arm."""
        try:
            yield
        except SpecError as error:
            text = str(error)
            _, arms = self._found.setdefault(text.replace(arm, ""), (text, set()))
            if arm in text:
                arms.add(arm)

    def raise_any(self) -> None:
        """Raise what was kept as one SpecError: the first NAMED texts, and how many more there are."""
        texts = [text + _others(len(arms) - 1) for text, arms in self._found.values()]
        if len(texts) > NAMED + 1:
            texts = [*texts[:NAMED], f"and {len(texts) - NAMED} other errors"]
        if texts:
            raise SpecError("\n".join(texts))


def _others(number: int) -> str:
    if number < 1:
        return ""
    return f" ({number} other arm{' has' if number == 1 else 's have'} the same error)"
