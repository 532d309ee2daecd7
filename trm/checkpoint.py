"""Checkpoints: a folder with a run's weights, and beside them what only resuming it needs.

FOLDER/checkpoint.pt     weights, config and what else tells of the run
FOLDER/resume/state.pt   the optimizers' state and the carry. A best checkpoint that is not the last has none
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

FILE, RESUME_FILE = "checkpoint.pt", "resume/state.pt"
FORMAT = 2  # of what is in the files; one of a higher format is refused. Format 1 had all of it in FILE

Save = Callable[[Path], object]  # writes a checkpoint into the empty folder that it is given


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written; the message gives its path and the remedy."""


def save_checkpoint(directory: Path, state: dict[str, Any], resume: dict[str, Any] | None = None) -> None:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) to a file in `directory`, and
    `resume`, which only resuming needs, to another one.

    They are neither synced nor written atomically: that is for whoever keeps the folder, as `keep_last` does.
    """
    for name, content in ((FILE, state), (RESUME_FILE, resume)):
        if content is not None:
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                torch.save(content, file)


def load_checkpoint(directory: Path, device: torch.device | str) -> dict[str, Any]:
    """The state in `directory`, with its tensors on `device`. Raises CheckpointError.

    Loading never runs code from the file.
    """
    path = Path(directory) / FILE
    state = _load_dict(path, device)
    check_format(path, state.get("format", 1), FORMAT)
    return state


def load_to_resume(directory: Path, device: torch.device | str) -> dict[str, Any]:
    """As `load_checkpoint`, with what only resuming needs. Raises CheckpointError where that was deleted."""
    state = load_checkpoint(directory, device)
    if state.get("format", 1) < 2:
        return state
    path = Path(directory) / RESUME_FILE
    if not path.exists():
        raise CheckpointError(
            f"{directory}: holds the weights alone, without {RESUME_FILE}, and no run can be resumed from "
            f"these: give the run's last checkpoint, or start again without one"
        )
    return state | _load_dict(path, device)


def _load_dict(path: Path, device: torch.device | str) -> dict[str, Any]:
    state = load_safely(path, device)
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: is not a checkpoint of a run, which is a dict (given {type(state).__name__}): give a "
            f"folder that a trial wrote"
        )
    return state


def check_format(path: Path, given: object, known: int) -> None:
    """Raise CheckpointError for a file of a higher format than is known, or of none."""
    if type(given) is not int:  # not isinstance: True is an int
        raise CheckpointError(
            f"{path}: its format is {given!r}, which must be a whole number: it is damaged, or of another "
            f"program: restore it from a copy, or give another"
        )
    if given > known:
        raise CheckpointError(
            f"{path}: was written by a newer version (format {given}; this one reads up to {known}): "
            f"install that version"
        )


def load_safely(path: Path, device: torch.device | str) -> Any:
    """What torch.save wrote to a file, without running code from it. Raises CheckpointError."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # of what is refused
            return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file: check the path") from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror}): give another") from error
    except Exception as error:  # torch.load raises many types, and advises to run the code of an unknown file
        raise CheckpointError(
            f"{path}: is not a readable checkpoint: it is damaged, of another program, or holds code, which "
            f"is never run: restore it from a copy, or give another"
        ) from error


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """A path beside `target` for the block to write a file or a folder to.

    At its end it is renamed to `target`. After an error it is removed, and `target` is as it was.
    """
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        yield partial
        partial.replace(target)
    finally:
        if partial.is_dir():
            shutil.rmtree(partial, ignore_errors=True)
        else:
            partial.unlink(missing_ok=True)


def keep_last(checkpoint: str | Path | Save, target: Path) -> None:
    """Replace the folder `target` by a checkpoint: a folder, which is copied, or a function that writes one.

    It is synced before. After an error `target` is as it was; after a crash it is so once
    `restore_last(target)` was called.
    """
    new, old = _beside(target)
    shutil.rmtree(new, ignore_errors=True)
    try:
        if callable(checkpoint):
            new.mkdir(parents=True)
            checkpoint(new)
        else:
            shutil.copytree(checkpoint, new)
        for path in [*new.rglob("*"), new]:
            _sync(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    try:
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
            target.rename(old)
        new.rename(target)
    except BaseException:
        restore_last(target)
        raise
    _sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore_last(target: Path) -> None:
    """Undo what a crash left of `keep_last`."""
    new, old = _beside(target)
    if old.exists() and not target.exists():
        old.rename(target)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)


def keep_weights(source: Path, target: Path) -> None:
    """Replace the weights in the folder `target` by those in `source`, atomically.

    They are one file in both (a hard link) where the file system has such links; else a copy.
    """
    target.mkdir(parents=True, exist_ok=True)
    partial = target / f"{FILE}.partial"
    partial.unlink(missing_ok=True)
    try:
        os.link(source / FILE, partial)
    except OSError:
        shutil.copyfile(source / FILE, partial)
        _sync(partial)
    partial.replace(target / FILE)
    _sync(target)


def _beside(target: Path) -> tuple[Path, Path]:
    """Where the next checkpoint is written, and where the one before is while they are exchanged."""
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _sync(path: Path) -> None:
    """Wait until a file or a folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
