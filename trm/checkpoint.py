"""Checkpoints: one file with everything that a run needs to resume, written atomically."""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

FILE = "checkpoint.pt"
FORMAT = 1  # of what is in the file; one of a higher format is refused


class CheckpointError(ValueError):
    """A checkpoint that cannot be used or written; the message gives its path and the remedy."""


def save_checkpoint(directory: Path, state: dict[str, Any]) -> Path:
    """Write `state` (tensors, numbers, strings, dicts and lists of them) to a file in `directory`."""
    directory.mkdir(parents=True, exist_ok=True)
    target, partial = directory / FILE, directory / f"{FILE}.partial"
    with partial.open("wb") as file:
        torch.save(state, file)
    _publish(partial, target)
    return target


def load_checkpoint(directory: Path, device: torch.device | str) -> dict[str, Any]:
    """The state in `directory`, with its tensors on `device`. Raises CheckpointError.

    Loading never runs code from the file.
    """
    path = Path(directory) / FILE
    state = load_safely(path, device)
    if not isinstance(state, dict):
        raise CheckpointError(
            f"{path}: is not a checkpoint of a run, which is a dict (given {type(state).__name__}): give a "
            f"folder that a trial wrote"
        )
    check_format(path, state.get("format", FORMAT), FORMAT)
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


def copy_checkpoint(source: Path, target: Path) -> None:
    """Replace the checkpoint in `target` by a copy of the one in `source`, atomically."""
    target.mkdir(parents=True, exist_ok=True)
    partial = target / f"{FILE}.partial"
    shutil.copyfile(source / FILE, partial)
    _publish(partial, target / FILE)


def _publish(partial: Path, target: Path) -> None:
    """Rename a fully written file to `target`; a crash at any moment leaves the old file or the new one."""
    descriptor = os.open(partial, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    partial.replace(target)
    _sync_directory(target.parent)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
