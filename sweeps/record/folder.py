"""The sweep's folder, DIR/NAME, and its sweep.yaml: compares it with the plan, and writes it.

`sweeps.launch` calls it before a run: the folder may be empty, or hold the same sweep (resume it), one that
the plan extends, or another sweep (refuse).
"""

from __future__ import annotations

import datetime
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from analysis.inference.rule import SMALLEST_LEVEL, Rule
from sweeps.plan.extension import refusals
from sweeps.plan.identity import differences, identity, resolved, under_recorded_names
from sweeps.plan.model import Plan
from sweeps.record.file_names import JOURNAL, SPACE
from sweeps.record.files import atomic_write
from sweeps.record.state import SweepState, read_state
from sweeps.space.errors import SpecError
from trm import __version__
from trm.settings.yaml import YamlError, dump_yaml, load_yaml


@dataclass(frozen=True)
class FolderStatus:
    """`finished`: every trial of the plan has ended. `extended`: the plan adds to the recorded sweep."""

    finished: bool = False
    extended: bool = False


def inspect_folder(plan: Plan, folder: Path, resume: bool, extend: bool) -> FolderStatus:
    """Compare the plan with the sweep in the folder.

    Raises SpecError if the folder holds another or an unfinished sweep that the options do not allow for, or
    holds none although `resume` or `extend` is given.
    """
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
    if extended:
        _refuse_without_reserve(plan, state)
    is_over = state.finished == "completed" and not (resume and state.lost)
    if is_over and state.plan_hash == plan.hash:  # an extended plan has another hash
        return FolderStatus(finished=True)
    if not (resume or extend):
        raise SpecError(
            f"{folder} holds this sweep, unfinished ({_remaining(state)}): continue with --resume "
            f"(resume=True in Python)"
        )
    return FolderStatus(extended=extended)


def _refuse_changes(plan: Plan, folder: Path, stored: dict[str, Any], extend: bool) -> None:
    """Raise SpecError unless the plan only adds to the sweep with the identity `stored`, and `extend` is
    set."""
    refused = refusals(plan, stored)
    lines = "\n".join(f"  {line}" for line in (refused if extend else differences(stored, plan.identity)))
    if extend and refused:
        raise SpecError(
            f"--extend: this space does not only add to the sweep in {folder}:\n{lines}\n"
            f"undo these changes, or choose another --name"
        )
    if not extend:
        hint = "" if refused else "add to it with --extend, or "
        raise SpecError(
            f"{folder} holds another sweep with the name {plan.spec.name!r}:\n{lines}\n"
            f"{hint}choose another --name, or another --storage"
        )


def as_recorded(plan: Plan, folder: Path) -> Plan:
    """The plan as an older version recorded it, if the folder holds a sweep of one; else the plan itself.

    Keys have the names that they had then. A sweep that was recorded before rules were part of the identity
    has no rule: it is compared as it was then, without looks.
    """
    if not (folder / SPACE).exists():
        return plan
    stored = read_resolved(folder)["identity"]
    if "evidence" not in stored:
        plan = replace(plan, rule=None, more_baseline_seeds=())
        plan = replace(plan, identity=identity(plan))
    return replace(plan, identity=under_recorded_names(plan, stored))


def recorded_rule(folder: Path) -> Rule:
    """The rule of a sweep that was recorded before rules were part of the identity."""
    evidence = load_yaml(folder / SPACE).get("evidence")
    return Rule.of(evidence or {})


def _refuse_without_reserve(plan: Plan, state: SweepState) -> None:
    """Raise SpecError if an extension could claim nothing, as the reserve is spent."""
    number = len(state.stages)
    rule = plan.rule
    if rule is None or rule.anytime or not number or rule.level(number) >= SMALLEST_LEVEL:
        return
    reserve, before = rule.reserve, number - 1
    spent = f"is {reserve:g}"
    if reserve:
        spent = f"was {reserve:g} of the 5%, of which {before} extension{'s' * (before != 1)} left too little"
    raise SpecError(
        f"--extend: evidence.reserve {spent}, so that this extension could claim nothing: launch what is "
        f"still open as a new sweep, on fresh seeds, under another --name"
    )


def _remaining(state: SweepState) -> str:
    remaining = f"{len(state.open)} trial{'s' * (len(state.open) != 1)} to go"
    if state.finished == "budget":
        return f"{remaining}, the budget was spent: raise it first"
    return remaining


def read_resolved(folder: Path) -> dict[str, Any]:
    """The `resolved` part of a recorded sweep.yaml. Raises SpecError if the file is damaged."""
    path = folder / SPACE
    try:
        stored = load_yaml(path)["resolved"]
        return {key: stored[key] for key in ("hash", "identity", "data", "id", "created")}
    except (YamlError, KeyError, TypeError) as error:
        raise SpecError(
            f"{path}: is damaged ({error}): restore it, or choose another --name or --storage"
        ) from error


def refuse_other_data(folder: Path, data: str, extended: bool) -> None:
    """Raise SpecError if the sweep was begun with other data: the content of data files may have changed.

    `data` holds the hashes of the plan's data, separated by spaces; an extended plan may add some.
    """
    if not (folder / SPACE).exists():
        return
    stored = read_resolved(folder)["data"]
    if stored != data and not (extended and set(stored.split()) <= set(data.split())):
        raise SpecError(
            f"{folder / SPACE}: the sweep was begun with other data (hash {stored or 'none'} before, "
            f"{data or 'none'} now): restore the files, or choose another --name"
        )


def write_space(plan: Plan, folder: Path, data: str, extended: bool) -> dict[str, Any]:
    """Write sweep.yaml if it does not exist or the sweep is extended; else only update its units. Returns
    its content."""
    path = folder / SPACE
    if extended or not path.exists():
        space = resolved(plan)
        created = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        origin = {"created": created, "id": new_sweep_id(plan.hash, created)}
        if extended:
            origin = {key: value for key, value in read_resolved(folder).items() if key in origin}
            if plan.rule is None:  # it stays as it was recorded
                space["evidence"] = load_yaml(path).get("evidence")
        space["resolved"] |= {"data": data, "version": __version__, **origin}
        _write(path, space)
    else:
        update_units(plan, folder)
    space = load_yaml(path)
    assert isinstance(space, dict)
    return space


def update_units(plan: Plan, folder: Path) -> None:
    """Set the units in sweep.yaml to the plan's: a trainer may have learnt to describe them."""
    path, current = folder / SPACE, resolved(plan)
    space = load_yaml(path)
    assert isinstance(space, dict)
    updated = space | {"objective": current["objective"]}
    updated["resolved"] = space["resolved"] | {"units": current["resolved"]["units"]}
    if updated != space:
        _write(path, updated)


def _write(path: Path, space: dict[str, Any]) -> None:
    with atomic_write(path) as staging:
        staging.write_text(dump_yaml(space), encoding="utf-8")


def sweep_id(space: Mapping[str, Any]) -> str:
    """The tag of the sweep's MLflow runs. It is more than the hash: a sweep must not take over the runs of an
    equal sweep whose folder was deleted."""
    return str(space["resolved"]["id"])


def new_sweep_id(digest: str, created: str) -> str:
    """An id of its own for each launch of a new sweep, also for equal ones within a second."""
    return f"{digest:.12}@{created}-{secrets.token_hex(4)}"
