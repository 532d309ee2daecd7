"""From a SudokuConfig to the three splits: read or generate, cut by symmetry class, draw, keep in a cache."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from trm.data.base import DataError, Split, TaskData
from trm.data.cache import Arrays, cached, file_digest
from trm.data.sudoku.augment import SudokuAugment
from trm.data.sudoku.csv_files import read_csv
from trm.data.sudoku.generate import RECIPES, generate
from trm.data.sudoku.grid import class_keys
from trm.data.sudoku.npy_files import npy_splits, read_npy
from trm.data.sudoku.puzzles import Puzzles

if TYPE_CHECKING:
    from trm.data.sudoku.config import SudokuConfig

_VERSION = 1  # of what this module and those below it compute: a change makes the cached splits anew
_MAX_VAL = 1000
_FIELDS = ("boards", "solutions", "ratings", "groups")


@dataclass(frozen=True)
class Splits:
    """Three lots of puzzles, of which no symmetry class is in two unless the given files have it so."""

    train: Puzzles
    val: Puzzles
    test: Puzzles


def load(config: SudokuConfig) -> TaskData:
    """See TaskConfig.load."""
    splits = load_splits(config)
    train, val, test = (_to_tensors(part) for part in (splits.train, splits.val, splits.test))
    digest = hashlib.sha256()
    for tensor in (*train, *val, *test):
        digest.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    augment = SudokuAugment(config.size, config.num_aug, config.seed)
    return TaskData(train, val, test, augment, digest.hexdigest())


def load_splits(config: SudokuConfig) -> Splits:
    """The puzzles of each split; from the cache when config and files are as before. Raises DataError."""
    files = _files(config)
    key = config.model_dump(mode="json", exclude={"train", "val", "test", "path", "repo", "num_aug"})
    digests = {}
    for name, path in files.items():
        digests.update({f"{name}/{file.relative_to(path)}": _digest(file) for file in _members(path)})
    arrays = cached("sudoku", [_VERSION, key, digests], lambda: _to_arrays(_make(config, files)))
    train, val, test = (
        Puzzles(*(arrays[f"{split}/{field}"] for field in _FIELDS)) for split in ("train", "val", "test")
    )
    return Splits(train, val, test)


def read_sources(config: SudokuConfig) -> dict[str, Puzzles]:
    """What the files hold, before any cut: train, test, and val where it has a file. Raises DataError."""
    files = _files(config)
    if config.source == "npy":
        folder = files["path"]
        found = {split: read_npy(folder, split, config.size) for split in npy_splits(folder)}
    else:
        found = {split: read_csv(path, config.size) for split, path in files.items()}
    kept = {split: puzzles.at_least(config.min_rating) for split, puzzles in found.items()}
    for split, puzzles in kept.items():
        if not len(puzzles):
            raise DataError(
                f"{files[split]}: no puzzle has a rating of at least min_rating {config.min_rating} (the "
                f"highest is {found[split].ratings.max()}): lower min_rating"
            )
    return kept


def cut_val(
    puzzles: Puzzles, num_train: int | None, num_val: int, size: int, rng: np.random.Generator
) -> tuple[Puzzles, Puzzles]:
    """Train and val, drawn by `rng` so that they share no class.

    Val has one puzzle from each of `num_val` classes; train has `num_train` groups of other classes, or all.
    Only as many puzzles are looked at as are needed. Raises DataError when there are too few.
    """
    order = rng.permutation(len(puzzles.groups) - 1)
    looked = len(order) if num_train is None else num_train + num_val
    while True:
        part = order[:looked]
        first = puzzles.take_groups(part, first_only=True)
        keys = class_keys(first.boards, first.solutions, size)
        val = np.sort(np.unique(keys, return_index=True)[1])[:num_val]
        train = np.flatnonzero(~np.isin(keys, keys[val]))[:num_train]
        if len(val) == num_val and len(train) >= (num_train or 1):
            break
        if looked >= len(order):
            raise DataError(
                f"data: {num_val} val puzzles (num_val) and {num_train or 'some'} others to train on "
                f"(num_train) are wanted, but train has {len(order)} puzzles in {len(np.unique(keys))} "
                f"symmetry classes, and no class may be in both: lower num_val or num_train"
            )
        looked *= 2
    return puzzles.take_groups(np.sort(part[train])), puzzles.take_groups(np.sort(part[val]), first_only=True)


def draw(puzzles: Puzzles, count: int | None, key: str, rng: np.random.Generator) -> Puzzles:
    """`count` random groups in their order, or all. Raises DataError when there are fewer than config.key."""
    groups = len(puzzles.groups) - 1
    if count is None:
        return puzzles
    if count > groups:
        raise DataError(f"data: {key} is {count}, but there are {groups} puzzles: lower {key} or remove it")
    return puzzles.take_groups(np.sort(rng.permutation(groups)[:count]))


def embedded(config: SudokuConfig) -> Splits:
    """Generated puzzles; val and test are the first found, so that they stay when num_train changes."""
    recipe = RECIPES[config.size]
    num_val, num_test = config.num_val or recipe.num_val, config.num_test or recipe.num_test
    count = num_val + num_test + (config.num_train or recipe.num_train)
    boards, solutions = generate(config.size, count, config.seed)
    ratings = np.zeros(count, np.int32)  # no guess is needed
    edges = (slice(num_val + num_test, None), slice(num_val), slice(num_val, num_val + num_test))
    return Splits(*(Puzzles.single(boards[part], solutions[part], ratings[part]) for part in edges))


def _make(config: SudokuConfig, files: dict[str, Path]) -> Splits:
    if config.source == "embedded":
        return embedded(config)
    found = read_sources(config)
    rng = np.random.default_rng(config.seed)
    test = draw(found["test"], config.num_test, "num_test", rng)
    if "val" in found:
        val = draw(found["val"], config.num_val, "num_val", rng)
        return Splits(draw(found["train"], config.num_train, "num_train", rng), val, test)
    groups = len(found["train"].groups) - 1
    num_val = config.num_val or max(1, min(_MAX_VAL, groups // 10))
    return Splits(*cut_val(found["train"], config.num_train, num_val, config.size, rng), test)


def _files(config: SudokuConfig) -> dict[str, Path]:
    match config.source:
        case "embedded":
            return {}
        case "generated_hard":
            package = Path(str(resources.files("trm.data.sudoku")))
            return {split: package / f"generated_hard_{split}.csv.gz" for split in ("train", "test")}
        case "csv":
            given = {"train": config.train, "val": config.val, "test": config.test}
            return {split: path for split, path in given.items() if path is not None}
        case "npy":
            assert config.path is not None
            return {"path": config.path}
        case "hub":
            assert config.repo is not None
            return {split: _download(config.repo, f"{split}.csv") for split in ("train", "test")}


def _download(repo: str, name: str) -> Path:
    """A file of a data set on the Hugging Face hub, fetched once."""
    from huggingface_hub import hf_hub_download  # not at the top: only this source needs it, and it is slow
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # a failure is told once, by the message below
    try:
        try:
            return Path(hf_hub_download(repo, name, repo_type="dataset", local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(repo, name, repo_type="dataset"))
    except Exception as error:  # the client raises its own, httpx's and the system's
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"data: repo {repo!r}: {name} cannot be had from the Hugging Face hub ({type(error).__name__}: "
            f"{reason}): check the name and the network, or download it and set source: csv"
        ) from error


def _members(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"  # reading it says why


def _to_arrays(splits: Splits) -> Arrays:
    parts: dict[str, Any] = {"train": splits.train, "val": splits.val, "test": splits.test}
    return {f"{name}/{field}": getattr(part, field) for name, part in parts.items() for field in _FIELDS}


def _to_tensors(puzzles: Puzzles) -> Split:
    return Split(
        torch.from_numpy(puzzles.boards + np.uint8(1)),
        torch.from_numpy(puzzles.solutions + np.uint8(1)),
        torch.from_numpy(puzzles.ratings),
    )
