"""Checkpoints: one file with everything that a run needs to resume, written atomically."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch

FILE = "checkpoint.pt"
FORMAT = 1  # of what is in the file; one of a higher format is refused


class CheckpointError(ValueError):
    """A checkpoint that cannot be resumed from; the message gives its path and the remedy."""


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
        raise CheckpointError(f"{path}: is not a checkpoint of a run: give a folder that a trial wrote")
    check_format(path, state.get("format", FORMAT), FORMAT)
    return state


def check_format(path: Path, given: int, known: int) -> None:
    """Raise CheckpointError for a file of a higher format than is known."""
    if given > known:
        raise CheckpointError(
            f"{path}: was written by a newer version (format {given}; this one reads up to {known}): "
            f"install that version"
        )


def load_safely(path: Path, device: torch.device | str) -> Any:
    """What torch.save wrote to a file, without running code from it. Raises CheckpointError."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file: check the path") from error
    except Exception as error:  # torch.load raises many types of errors for a damaged file
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path}: is not a readable checkpoint ({reason}): remove it, or use another"
        ) from error


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
