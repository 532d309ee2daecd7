"""The search spaces that come with the project, by name: `smoke` is search_spaces/smoke.yaml."""

from __future__ import annotations

import difflib
from contextlib import suppress
from pathlib import Path

from sweeps.space.errors import SpecError

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"  # in a checkout and in site-packages alike


def shipped_names() -> list[str]:
    """The names that `find_space` knows, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find_space(given: Path) -> Path:
    """The file at `given`; where there is none, the shipped search space of that name.

    A folder is no file: `--storage .` makes one of the sweep's name. Raises SpecError where there is neither.
    """
    names = shipped_names()
    if str(given) in names and (given.is_dir() or not given.exists()):
        return FOLDER / f"{given}.yaml"
    with suppress(OSError):  # no permission, a name too long: told when the file is read
        if not given.exists():
            beside = {path.stem: str(path) for path in given.parent.glob("*.yaml")}
            near = difflib.get_close_matches(given.stem, [*beside, *names], n=1)
            hint = f"did you mean {beside.get(near[0], near[0])}? " if near else ""
            raise SpecError(
                f"{given}: no such file, and {FOLDER.name}/ has none of this name: {hint}check the "
                f"path, or give one of {', '.join(names)}"
            )
    return given
