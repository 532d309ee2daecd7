"""Puzzles in the reference implementation's folders: {train,test}/all__*.npy, dataset.json, identifiers.json.

Inputs and labels (N, cells) are token ids, with 0 as padding. Rows of a group are variants of one puzzle. The
format has no ratings.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trm.data.base import DataError
from trm.data.boards.rules import Boards, Puzzles, Rules


def read_npy(folder: Path, split: str, rules: Rules) -> Puzzles:
    """The puzzles of one split, of any integer dtype, as `Rules.checked` returns them. Raises DataError."""
    part = folder / split
    if not part.is_dir():
        raise DataError(
            f"{part}: no such folder: path must name a folder with train/ and test/ as the reference "
            f"implementation writes them (`python -m trm.data.{rules.task} prepare` writes one)"
        )
    _check_metadata(part / "dataset.json", rules)
    boards = _boards(part / "all__inputs.npy", rules, "question")
    solutions = _boards(part / "all__labels.npy", rules, "answer")
    count = len(boards)
    if count == 0:
        raise DataError(f"{part / 'all__inputs.npy'}: contains no puzzle")
    if len(solutions) != count:
        raise DataError(f"{part / 'all__labels.npy'}: {len(solutions)} rows, but all__inputs.npy has {count}")
    ids = _integers(part / "all__puzzle_identifiers.npy")
    if ids.shape != (count,) or ids.any():
        raise DataError(
            f"{part / 'all__puzzle_identifiers.npy'}: must be {count} zeros (there is one identifier, "
            f"<blank>), but its shape is {ids.shape} and its largest value {ids.max(initial=0)}"
        )
    indices = _edges(part / "all__puzzle_indices.npy", count)
    if len(indices) != count + 1:
        raise DataError(
            f"{part / 'all__puzzle_indices.npy'}: {len(indices) - 1} puzzles for {count} rows: each row "
            f"is a puzzle of its own, so the indices must be 0 to {count}"
        )
    groups = _edges(part / "all__group_indices.npy", count)
    unrated, file = np.full(count, -1, np.int32), f"{part / 'all__inputs.npy'}: row "
    puzzles = Puzzles(boards, solutions, unrated, groups, np.arange(count), file)
    puzzles = rules.checked(puzzles)
    _check_groups(part, puzzles, rules)
    return puzzles


def npy_splits(folder: Path) -> list[str]:
    """Train and test, and val if it exists: this project writes it, the reference implementation does not."""
    return ["train", "test"] + ["val"] * (folder / "val").is_dir()


def write_npy(folder: Path, split: str, puzzles: Puzzles, rules: Rules) -> None:
    """Write one split with the names, shapes and metadata keys of the reference's dataset builder."""
    part = folder / split
    part.mkdir(parents=True)
    count, groups = len(puzzles), len(puzzles.groups) - 1
    arrays = {
        "inputs": puzzles.boards + np.uint8(1),
        "labels": puzzles.solutions + np.uint8(1),
        "puzzle_identifiers": np.zeros(count, np.int32),
        "puzzle_indices": np.arange(count + 1, dtype=np.int32),
        "group_indices": puzzles.groups.astype(np.int32),
    }
    for name, values in arrays.items():
        np.save(part / f"all__{name}.npy", values)
    metadata = {
        **_required_metadata(rules),
        "total_groups": groups,
        "mean_puzzle_examples": 1,
        "total_puzzles": groups,  # as in the reference's dataset builder: not the number of rows
        "sets": ["all"],
    }
    (part / "dataset.json").write_text(json.dumps(metadata), encoding="utf-8")
    (folder / "identifiers.json").write_text(json.dumps(["<blank>"]), encoding="utf-8")


def _required_metadata(rules: Rules) -> dict[str, int]:
    return {
        "pad_id": 0,
        "ignore_label_id": 0,
        "blank_identifier_id": 0,
        "vocab_size": rules.vocab_size,
        "seq_len": rules.cells,
        "num_puzzle_identifiers": 1,
    }


def _check_metadata(path: Path, rules: Rules) -> None:
    try:
        metadata = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}): build the folder anew") from error
    except ValueError as error:
        raise DataError(f"{path}: is not JSON ({error}): build the folder anew") from error
    if not isinstance(metadata, dict):
        raise DataError(f"{path}: must be a JSON object, but is {str(metadata)[:80]!r}")
    for key, expected in {**_required_metadata(rules), "sets": ["all"]}.items():
        if metadata.get(key) != expected:
            raise DataError(
                f"{path}: {key} is {metadata.get(key)!r}, but {rules.name} has {expected!r}: "
                f"set size to the data's board, or name another folder"
            )


def _integers(path: Path) -> NDArray[Any]:
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # np.load would also accept an npz archive
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file: build the folder anew") from error
    except Exception as error:  # numpy evaluates a damaged header as Python code, which raises any type
        raise DataError(f"{path}: is not an npy file ({error}): build the folder anew") from error
    if array.dtype.kind not in "iu":
        raise DataError(f"{path}: dtype is {array.dtype}: must be an integer type")
    return array


def _boards(path: Path, rules: Rules, column: str) -> Boards:
    """The symbols, (N, cells), of a file of token ids; `column` is "question" or "answer"."""
    tokens = _integers(path)
    if tokens.ndim != 2 or tokens.shape[1] != rules.cells:
        needed = f"{rules.name} needs (rows, {rules.cells})"
        raise DataError(f"{path}: shape is {tokens.shape}, but {needed}: set size to the data's board")
    lowest, highest = rules.symbols[column].start + 1, rules.symbols[column].stop
    illegal = (tokens < lowest) | (tokens > highest)
    if illegal.any():
        row, cell = divmod(int(illegal.ravel().argmax()), rules.cells)
        raise DataError(
            f"{path}: row {row}, cell {cell} holds {tokens[row, cell]}; allowed are {lowest} to {highest} "
            f"({rules.explained['id']})"
        )
    return tokens.astype(np.uint8) - np.uint8(1)


def _check_groups(part: Path, puzzles: Puzzles, rules: Rules) -> None:
    """Raise DataError unless the rows of each group are variants of one puzzle: val is cut by groups."""
    if len(puzzles.groups) == len(puzzles) + 1:
        return
    keys = rules.class_keys(puzzles.boards, puzzles.solutions)
    stray = keys != np.repeat(keys[puzzles.groups[:-1]], np.diff(puzzles.groups))
    if stray.any():
        row = int(stray.argmax())
        group = int(np.searchsorted(puzzles.groups, row, side="right")) - 1
        raise DataError(
            f"{part / 'all__group_indices.npy'}: row {row} is not a symmetry of row {puzzles.groups[group]}, "
            f"the first of its group {group}: give each puzzle a group of its own"
        )


def _edges(path: Path, count: int) -> NDArray[np.int64]:
    """Indices that divide `count` rows into parts. Raises DataError."""
    edges = np.asarray(_integers(path), np.int64)
    rises = edges.ndim == 1 and len(edges) > 1 and (np.diff(edges) > 0).all()
    if not rises or edges[0] != 0 or edges[-1] != count:
        raise DataError(f"{path}: must rise from 0 to the {count} rows, but is {str(edges)[:80]}")
    return edges
