"""The three splits of a config: read or generate, cut by symmetry class, draw, and cache."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from trm.data.base import DataError, Split, TaskData
from trm.data.boards.config import PuzzleConfig
from trm.data.boards.csv_files import read_csv
from trm.data.boards.npy_files import npy_splits, read_npy
from trm.data.boards.rules import Keys, Puzzles, Rules
from trm.data.tensor_cache import Content, cached, file_digest

log = logging.getLogger(__name__)

# The most puzzles of a split whose answers are checked when it is drawn; the command `check` checks all.
CHECKED = 20_000

_VERSION = (
    3  # increment when this module or one that it imports computes other splits: it is part of the cache key
)
_MAX_VAL = 1000
_SPLITS = ("train", "val", "test")
_NO_KEYS = np.empty(0, np.uint64)


@dataclass(frozen=True)
class Splits:
    """The puzzles of the three splits; no symmetry class is in two of them."""

    train: Puzzles
    val: Puzzles
    test: Puzzles
    left_out: str = ""  # says how many puzzles of the files are left out for that reason; empty if none

    @property
    def parts(self) -> dict[str, Puzzles]:
        return {name: getattr(self, name) for name in _SPLITS}


def load(config: PuzzleConfig) -> TaskData:
    """Load the data as `TaskConfig.load` says."""
    content = _content(config)
    train, val, test = (_split(content, name) for name in _SPLITS)
    groups = _tensor(content, "train/groups")
    has_variants = len(groups) - 1 < len(train.inputs)
    num_aug = 0 if has_variants and config.num_aug is None else config.num_aug
    return TaskData.of(train, val, test, groups, config.augment(num_aug))


def load_splits(config: PuzzleConfig) -> Splits:
    """The puzzles of each split, from the cache if config and files are unchanged. Raises DataError.

    If they are not cached, `Rules.check_answers` checks the puzzles of each split (a seeded sample of 20,000
    if there are more), and a warning says how many puzzles of the files are left out because their class is
    in another split.
    """
    content = _content(config)
    train, val, test = (_puzzles(content, name) for name in _SPLITS)
    return Splits(train, val, test, str(content["left_out"]))


def _content(config: PuzzleConfig) -> Content:
    """The tensors of each split as the trainer uses them, so that they are memory-mapped without a copy."""
    files = _files(config)
    key = config.model_dump(mode="json", exclude={"train", "val", "test", "path", "repo", "num_aug"})
    digests = {}
    for name, path in files.items():
        digests.update({f"{name}/{file.relative_to(path)}": _digest(file) for file in _members(path)})
    return cached(config.task, [_VERSION, key, digests], lambda: _to_content(_make(config, files)))


def read_sources(config: PuzzleConfig) -> dict[str, Puzzles]:
    """The puzzles of the files before any cut: train, test, and val if it has a file. Raises DataError."""
    files = _files(config)
    if config.source == "npy":
        folder = files["path"]
        found = {split: read_npy(folder, split, config.rules) for split in npy_splits(folder)}
    else:
        found = {split: read_csv(path, config.rules) for split, path in files.items()}
    kept = {split: puzzles.at_least(config.min_rating) for split, puzzles in found.items()}
    for split, puzzles in kept.items():
        if not len(puzzles):
            raise DataError(
                f"{files[split]}: no puzzle has a rating of at least min_rating {config.min_rating} (the "
                f"highest is {found[split].ratings.max()}): lower min_rating"
            )
    return kept


def cut_val(
    puzzles: Puzzles,
    num_train: int | None,
    num_val: int,
    rules: Rules,
    rng: np.random.Generator,
    taken: Keys = _NO_KEYS,
) -> tuple[Puzzles, Puzzles, str]:
    """Train and val, drawn with `rng`, without a class in common or in `taken`, the keys of test.

    Val has one puzzle from each of `num_val` classes; train has `num_train` groups of other classes, or all.
    Examines only as many puzzles as are needed. The returned text says how many of these were left out; it is
    empty if none were. Raises DataError if there are too few.
    """
    order = rng.permutation(len(puzzles.groups) - 1)
    looked = len(order) if num_train is None else num_train + num_val
    while True:
        part = order[:looked]
        keys = rules.keys(puzzles, part)
        free = np.flatnonzero(~np.isin(keys, taken))
        left_out = _left_out("train", len(keys), len(free), "test")
        val = free[np.sort(np.unique(keys[free], return_index=True)[1])[:num_val]]
        train = free[~np.isin(keys[free], keys[val])][:num_train]
        if len(val) == num_val and len(train) >= (num_train or 1):
            break
        if looked >= len(order):
            raise DataError(
                f"data: {num_val} val puzzles (num_val) and {num_train or 'some'} others to train on "
                f"(num_train) are wanted, but train has {len(free)} puzzles in {len(np.unique(keys[free]))} "
                f"symmetry classes{left_out and f' ({left_out})'}, and no class may be in both: "
                f"lower num_val or num_train{left_out and ', or give other files'}"
            )
        looked *= 2
    return (
        puzzles.take_groups(np.sort(part[train])),
        puzzles.take_groups(np.sort(part[val]), first_only=True),
        left_out,
    )


def draw(
    name: str,
    puzzles: Puzzles,
    count: int | None,
    rules: Rules,
    rng: np.random.Generator,
    taken: Keys = _NO_KEYS,
    by: str = "",
) -> tuple[Puzzles, str]:
    """`count` random groups, or all, for the split `name`, in file order, without the classes in `taken`.

    Examines only as many groups as are needed. The returned text says how many of these were left out because
    their class is in the splits `by`; it is empty if none were. Raises DataError if there are too few.
    """
    groups = len(puzzles.groups) - 1
    order = np.arange(groups) if count is None else rng.permutation(groups)
    looked = groups if count is None else count
    while True:
        part = order[:looked]
        free = part[~np.isin(rules.keys(puzzles, part), taken)] if len(taken) else part
        left_out = _left_out(name, len(part), len(free), by)
        if len(free) >= (count or 1):
            break
        if looked >= groups:
            wanted = f"num_{name} is {count}" if count else f"puzzles for {name} are wanted"
            remedies = [f"lower num_{name}"] * bool(count) + ["give other files"] * bool(left_out)
            raise DataError(
                f"data: {wanted}, but there are {len(free)} puzzles{left_out and f' ({left_out})'}: "
                f"{' or '.join(remedies)}"
            )
        looked *= 2
    return puzzles.take_groups(np.sort(free[:count])), left_out


def _left_out(name: str, looked: int, free: int, by: str) -> str:
    if looked == free:
        return ""
    count = f"{looked - free:,} of the {looked:,} {name} puzzles looked at"
    return f"{count} are left out: symmetries of them are in {by}"


def generated(config: PuzzleConfig) -> Splits:
    """Generated puzzles; val and test are the first ones, so that they do not depend on num_train."""
    default = config.generated_counts
    num_val, num_test = config.num_val or default["val"], config.num_test or default["test"]
    first = num_val + num_test
    puzzles = config.generate(first + (config.num_train or default["train"]))
    edges = np.split(np.arange(len(puzzles)), [num_val, first])
    val, test, train = (puzzles.take_groups(part) for part in edges)
    return Splits(train, val, test)


def _make(config: PuzzleConfig, files: dict[str, Path]) -> Splits:
    if config.is_generated:
        return generated(config)
    splits = _divide(config, read_sources(config))
    for part in splits.parts.values():
        config.rules.check_answers(part, CHECKED)
    if splits.left_out:
        log.warning("data: %s", splits.left_out)
    return splits


def _divide(config: PuzzleConfig, found: dict[str, Puzzles]) -> Splits:
    """Draw test first; leave its classes out of val and train, and those of a val file out of train."""
    rules, rng = config.rules, np.random.default_rng(config.seed)
    test, _ = draw("test", found["test"], config.num_test, rules, rng)
    taken = rules.keys(test)
    if "val" not in found:
        groups = len(found["train"].groups) - 1
        num_val = config.num_val or max(1, min(_MAX_VAL, groups // 10))
        train, val, left_out = cut_val(found["train"], config.num_train, num_val, rules, rng, taken)
        return Splits(train, val, test, left_out)
    val, of_val = draw("val", found["val"], config.num_val, rules, rng, taken, "test")
    taken = np.union1d(taken, rules.keys(found["val"]))
    train, of_train = draw("train", found["train"], config.num_train, rules, rng, taken, "val or test")
    return Splits(train, val, test, "; ".join(filter(None, (of_val, of_train))))


def _files(config: PuzzleConfig) -> dict[str, Path]:
    match config.source:
        case "csv":
            paths = {"train": config.train, "val": config.val, "test": config.test}
            return {split: path for split, path in paths.items() if path is not None}
        case "npy":
            assert config.path is not None
            return {"path": config.path}
        case "hub":
            assert config.repo is not None
            return {split: _download(config.repo, f"{split}.csv") for split in ("train", "test")}
        case _:
            return config.packaged_files()


def _download(repo: str, name: str) -> Path:
    """A file of a data set on the Hugging Face hub, fetched once."""
    from huggingface_hub import (
        hf_hub_download,
    )  # not at the top: only this source needs it, and the import is slow
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()  # the message below reports a failure
    try:
        try:
            return Path(hf_hub_download(repo, name, repo_type="dataset", local_files_only=True))
        except LocalEntryNotFoundError:
            return Path(hf_hub_download(repo, name, repo_type="dataset"))
    except Exception as error:  # of the client, httpx or the system
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"data: repo {repo!r}: {name} cannot be downloaded from the Hugging Face hub "
            f"({type(error).__name__}: {reason}): check the name and the network, or download it and set "
            f"source: csv"
        ) from error


def _members(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def _digest(path: Path) -> str:
    try:
        return file_digest(path)
    except OSError:
        return "unreadable"  # reading the file raises the error


def _to_content(splits: Splits) -> Content:
    """Tensors of token ids: symbol + 1, as token 0 is padding."""
    content: dict[str, torch.Tensor | str] = {"left_out": splits.left_out}
    for name, part in splits.parts.items():
        content[f"{name}/inputs"] = torch.from_numpy(part.boards + np.uint8(1))
        content[f"{name}/labels"] = torch.from_numpy(part.solutions + np.uint8(1))
        content[f"{name}/ratings"] = torch.from_numpy(part.ratings)
        content[f"{name}/groups"] = torch.from_numpy(part.groups)
    return content


def _tensor(content: Content, name: str) -> torch.Tensor:
    tensor = content[name]
    assert isinstance(tensor, torch.Tensor)
    return tensor


def _split(content: Content, name: str) -> Split:
    return Split(*(_tensor(content, f"{name}/{field}") for field in Split._fields))


def _puzzles(content: Content, name: str) -> Puzzles:
    split = _split(content, name)
    boards, solutions = ((tokens - 1).numpy() for tokens in (split.inputs, split.labels))
    return Puzzles(boards, solutions, split.ratings.numpy(), _tensor(content, f"{name}/groups").numpy())
