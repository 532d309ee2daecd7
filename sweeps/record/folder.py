"""What a launch finds in its folder, DIR/NAME: nothing, the same sweep, one to add to, or another."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.plan.extension import refusals
from sweeps.plan.identity import differences, resolved
from sweeps.plan.model import Plan
from sweeps.record.files import written_whole
from sweeps.record.state import SweepState, read_state
from sweeps.space.errors import SpecError
from trm import __version__
from trm.settings.yaml import YamlError, dump_yaml, load_yaml

SPACE, JOURNAL = "sweep.yaml", "journal.jsonl"


@dataclass(frozen=True)
class FolderStatus:
    """How far the sweep in the folder is. `extended`: the plan has more than was launched."""

    finished: bool = False
    extended: bool = False


def inspect_folder(plan: Plan, folder: Path, resume: bool, extend: bool) -> FolderStatus:
    """Raises SpecError where the name is taken, or there is nothing to go on with."""
    if not (folder / SPACE).exists():
        if resume or extend:
            option = "--resume" if resume else "--extend"
            raise SpecError(f"{option}: there is no sweep in {folder}; launch it first, without {option}")
        return FolderStatus()
    stored = read_resolved(folder)
    extended = stored["hash"] != plan.hash
    if extended:
        _refuse_changes(plan, folder, stored["identity"], extend)
    state = read_state(folder / JOURNAL)
    if state.finished == "completed" and state.plan_hash == plan.hash:  # not so if it is to be extended
        return FolderStatus(finished=True)
    if not (resume or extend):
        raise SpecError(f"{folder} holds this sweep, unfinished ({_left(state)}); go on with --resume")
    return FolderStatus(extended=extended)


def _refuse_changes(plan: Plan, folder: Path, stored: dict[str, Any], extend: bool) -> None:
    refused = refusals(plan, stored)
    lines = "\n".join(f"  {line}" for line in (refused if extend else differences(stored, plan.identity)))
    if extend and refused:
        raise SpecError(
            f"--extend: {folder} holds a sweep that this one does not only add to:\n{lines}\n"
            f"undo these, or choose another --name"
        )
    if not extend:
        hint = "" if refused else "add to it with --extend, or "
        raise SpecError(
            f"{folder} holds another sweep of the name {plan.spec.name!r}:\n{lines}\n"
            f"{hint}choose another --name, or another --storage"
        )


def _left(state: SweepState) -> str:
    left = f"{len(state.open)} trials to go"
    return f"{left}, the budget was spent: raise it first" if state.finished == "budget" else left


def read_resolved(folder: Path) -> dict[str, Any]:
    """What a sweep that was launched before came to. Raises SpecError where the file is damaged."""
    path = folder / SPACE
    try:
        found = load_yaml(path)["resolved"]
        return {key: found[key] for key in ("hash", "identity", "data", "id", "created")}
    except (YamlError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path}: is damaged ({error}): restore it, or choose another --name or --storage"
        ) from error


def refuse_other_data(folder: Path, data: str, extended: bool) -> None:
    """Raise SpecError where the sweep began on other data: files can change under their names."""
    if not (folder / SPACE).exists():
        return
    stored = read_resolved(folder)["data"]
    if stored != data and not (extended and set(stored.split()) <= set(data.split())):
        raise SpecError(
            f"{folder / SPACE}: the sweep began on other data (hash {stored or 'none'} there, "
            f"{data or 'none'} here): restore the files, or choose another --name"
        )


def write_space(plan: Plan, folder: Path, data: str, extended: bool) -> dict[str, Any]:
    """sweep.yaml, once, and anew where the sweep is extended; returns its content."""
    path = folder / SPACE
    if extended or not path.exists():
        space = resolved(plan)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        made = {"created": created, "id": new_sweep_id(plan.hash, created)}
        if extended:
            made = {key: value for key, value in read_resolved(folder).items() if key in made}
        space["resolved"] |= {"data": data, "version": __version__, **made}
        _write(path, space)
    else:
        renew_evidence(plan, folder)
    space = load_yaml(path)
    assert isinstance(space, dict)
    return space


def renew_evidence(plan: Plan, folder: Path) -> bool:
    """Bring `evidence` in sweep.yaml up to the plan's, and say whether it was another: the report follows
    what is asked for now, as that is no part of what makes a sweep the same one."""
    path, asked = folder / SPACE, resolved(plan)["evidence"]
    space = load_yaml(path)
    assert isinstance(space, dict)
    if space.get("evidence") == asked:
        return False
    _write(path, space | {"evidence": asked})
    return True


def _write(path: Path, space: dict[str, Any]) -> None:
    with written_whole(path) as staging:
        staging.write_text(dump_yaml(space), encoding="utf-8")


def sweep_id(space: Mapping[str, Any]) -> str:
    """What the runs of one sweep are tagged with. The hash alone would let a sweep adopt the runs of an equal
    one whose folder was deleted."""
    return str(space["resolved"]["id"])


def new_sweep_id(digest: str, created: str) -> str:
    return f"{digest:.12}@{created}"
