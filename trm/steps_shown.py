"""A model's answers after each supervision step, as boards for a terminal."""

from __future__ import annotations

import numpy as np
from rich.columns import Columns
from rich.console import Console
from rich.padding import Padding
from rich.text import Text
from torch import Tensor

from trm.data.boards.rules import Rules
from trm.data.boards.task import PuzzleTask
from trm.trained import Trained

_GIVEN, _CHANGED, _PADDING = "dim", "bold reverse green", "?"


def show_steps(
    trained: Trained, task: PuzzleTask, inputs: Tensor, steps: int | None, console: Console
) -> None:
    """Print each row of `inputs`, (N, L) tokens: the puzzle, then the board after every step.

    Cells that changed in a step are in colour; above the board stand their number and, if the halting head
    is trained, its confidence that the board is right.
    """
    answers = trained.predict_each_step(inputs, steps)
    places = _places(task.rules)
    for row, puzzle in enumerate(inputs):
        console.print(f"puzzle {row + 1}", style="bold")
        boards, before = [_board(task.rules, places, puzzle, puzzle, puzzle)], puzzle
        for step, (tokens, confidence) in enumerate(answers, start=1):
            now = tokens[row].cpu()
            changed = int((now != before).sum())
            sure = "" if confidence is None else f", {confidence[row]:.0%}"
            title = f"step {step}: {changed} changed{sure}"
            boards.append(Text.assemble(title, "\n", _board(task.rules, places, puzzle, before, now)))
            before = now
        boards[0] = Text.assemble("given", "\n", boards[0])
        console.print(Columns([Padding(board, (0, 3, 1, 0)) for board in boards]))


def _places(rules: Rules) -> list[int]:
    """Where each cell stands in `rules.picture`: where two boards without a like cell look different."""
    first, second = (rules.picture(np.full(rules.cells, symbol, np.uint8)) for symbol in (0, 1))
    return [place for place, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]


def _board(rules: Rules, places: list[int], puzzle: Tensor, before: Tensor, now: Tensor) -> Text:
    symbols = (now.clamp(min=1) - 1).numpy().astype(np.uint8)
    text = Text(rules.picture(symbols), no_wrap=True)
    for place, was, token, given in zip(places, before, now, puzzle, strict=True):
        if token == 0:
            text = Text.assemble(text[:place], _PADDING, text[place + 1 :])
        if token != was:
            text.stylize(_CHANGED, place, place + 1)
        elif token == given:
            text.stylize(_GIVEN, place, place + 1)
    return text
