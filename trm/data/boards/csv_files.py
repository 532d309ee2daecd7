"""Puzzles in the CSV format of Sudoku-Extreme and Maze-Hard: source, question, answer, rating."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from trm.data.base import DataError
from trm.data.boards.rules import Boards, Puzzles, Rules

COLUMNS = ("source", "question", "answer", "rating")

_CHUNK = 100_000  # rows held as strings at a time
_MAX_RATING = 2**31 - 1


def read_csv(path: Path, rules: Rules) -> Puzzles:
    """All puzzles of a file (.csv or .csv.gz), in order, as `Rules.checked` returns them. Raises DataError.

    The columns `question` and `answer` are required. A missing `rating` is -1. Other columns are ignored.
    """
    return rules.checked(_read(path, rules, needs_answers=True)[0])


def read_questions(path: Path, rules: Rules) -> tuple[Puzzles, bool]:
    """The puzzles of a file whose column `answer` may be missing, and whether it is there.

    Without it the solutions are the boards themselves, and nothing is checked but the symbols.
    """
    puzzles, has_answers = _read(path, rules, needs_answers=False)
    return (rules.checked(puzzles) if has_answers else puzzles), has_answers


def _read(path: Path, rules: Rules, needs_answers: bool) -> tuple[Puzzles, bool]:
    boards, answers = [np.empty((0, rules.cells), np.uint8)], [np.empty((0, rules.cells), np.uint8)]
    lines, ratings = array("q"), array("i")
    has_answers = True
    try:
        with _open(path) as file:
            for questions, solved, numbers, rated in _chunks(path, file, needs_answers):
                boards.append(_symbols(path, "question", questions, numbers, rules))
                has_answers = solved is not None
                answers.append(
                    boards[-1] if solved is None else _symbols(path, "answer", solved, numbers, rules)
                )
                lines.extend(numbers)
                ratings.extend(_ratings(path, rated, numbers))
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: check the path") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 text (byte {error.start}): save it as CSV in UTF-8") from error
    puzzles = Puzzles(
        np.concatenate(boards),
        np.concatenate(answers),
        np.array(ratings, np.int32),
        groups=np.arange(len(ratings) + 1),
        places=np.array(lines, np.int64),
        file=f"{path}:",
    )
    if not len(puzzles):
        raise DataError(f"{path}: contains no puzzle: give a file with rows below its header")
    return puzzles, has_answers


def write_csv(path: Path, puzzles: Puzzles, rules: Rules, source: str) -> None:
    """Write puzzles in the same format, with the line endings of the published files (CRLF)."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for board, solution, rating in zip(puzzles.boards, puzzles.solutions, puzzles.ratings, strict=True):
            texts = rules.text(board), rules.text(solution)
            writer.writerow([source, *texts, rating if rating >= 0 else ""])


def _open(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _chunks(
    path: Path, file: IO[str], needs_answers: bool
) -> Iterator[tuple[list[str], list[str] | None, list[int], list[str]]]:
    """Questions, answers (None without such a column), line numbers and ratings of up to _CHUNK rows."""
    reader = csv.reader(file)
    questions, answers, numbers, ratings = [], [], [], []
    try:
        header = [name.strip() for name in next(reader, [])]
        question, answer, rating = _column_indices(path, header, needs_answers)
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise DataError(
                    f"{path}:{reader.line_num}: {len(row)} fields (the line begins {','.join(row)[:40]!r}), "
                    f"but the header has {len(header)} ({', '.join(header)}): correct or remove the row"
                )
            questions.append(row[question])
            answers.append(row[answer] if answer is not None else "")
            numbers.append(reader.line_num)
            ratings.append(row[rating] if rating is not None else "")
            if len(questions) == _CHUNK:
                yield questions, answers if answer is not None else None, numbers, ratings
                questions, answers, numbers, ratings = [], [], [], []
    except csv.Error as error:
        raise DataError(
            f"{path}:{reader.line_num}: is not CSV ({error}): save it as plain CSV text"
        ) from error
    yield questions, answers if answer is not None else None, numbers, ratings


def _column_indices(path: Path, header: list[str], needs_answers: bool) -> tuple[int, int | None, int | None]:
    needed = ("question", "answer") if needs_answers else ("question",)
    missing = [name for name in needed if name not in header]
    if missing:
        raise DataError(
            f"{path}:1: no column {' and no column '.join(missing)} (the header is "
            f"{','.join(header)[:80]!r}): the first line must be {','.join(COLUMNS)}"
        )
    answer, rating = (header.index(name) if name in header else None for name in ("answer", "rating"))
    return header.index("question"), answer, rating


def _symbols(path: Path, column: str, texts: list[str], lines: list[int], rules: Rules) -> Boards:
    """The symbols of N strings, (N, cells)."""
    cells, allowed = rules.cells, rules.symbols[column]
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    if (lengths != cells).any():
        row = int((lengths != cells).argmax())
        raise DataError(
            f"{path}:{lines[row]}: {column} has {lengths[row]} characters ({texts[row][:100]!r}), but a "
            f"{rules.size}x{rules.size} board has {cells}: correct the row, or set size"
        )
    symbol_of = np.full(256, 255, np.uint8)
    for symbol in allowed:
        symbol_of[ord(rules.alphabet[symbol])] = symbol
    for other, char in rules.aliases.items():
        symbol_of[ord(other)] = symbol_of[ord(char)]
    codes = np.frombuffer("".join(texts).encode("ascii", "replace"), np.uint8).reshape(-1, cells)
    symbols = symbol_of[codes]
    illegal = symbols == 255
    if illegal.any():
        row, cell = divmod(int(illegal.ravel().argmax()), cells)
        raise DataError(
            f"{path}:{lines[row]}: {column} has {texts[row][cell]!r} at character {cell + 1} of "
            f"{texts[row]!r}; allowed are {rules.explained[column]}: correct the row"
        )
    return symbols


def _ratings(path: Path, texts: list[str], lines: list[int]) -> list[int]:
    ratings = []
    for text, line in zip(texts, lines, strict=True):
        try:
            rating = int(text) if text else -1
        except ValueError:
            rating = _MAX_RATING + 1
        if abs(rating) > _MAX_RATING:
            raise DataError(
                f"{path}:{line}: rating is {text[:40]!r}; allowed are whole numbers up to {_MAX_RATING}, and "
                f"an empty field if it is unknown: correct it or leave it empty"
            )
        ratings.append(rating)
    return ratings
