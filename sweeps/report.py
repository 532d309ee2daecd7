"""Writes a sweep's report: at the end of a launch, and from its journal at any time."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from analysis.sweep import AnalysisError, Sweep, load_sweep
from sweeps.record import mlflow_file
from sweeps.record.file_names import PRIMARY, REPORT, TABLES
from sweeps.record.files import atomic_write
from sweeps.record.reading import SweepFiles
from sweeps.record.tables import rebuild
from sweeps.space.errors import SpecError


def write(folder: Path) -> Path:
    """Write summary.csv, the report and what belongs to it from the tables in `folder`. Returns the page.

    Raises AnalysisError if no trial has completed, and OSError.
    """
    from analysis.report.build import write_report
    from analysis.report.summary import write_summary

    write_summary(folder)
    return write_report(folder)


def ranking_of(folder: Path) -> str:
    """The ranking as text. Raises AnalysisError if the tables cannot be read."""
    from analysis.report.summary import ranking_text

    return ranking_text(folder)


def write_beside_a_launch(folder: Path) -> Path:
    """The same while a launch works on the sweep: of the journal as it is now. Each file is whole at any
    time. Returns the page."""
    with _copied(SweepFiles(str(folder)), folder.name, is_running=True) as copy:
        write(copy)
        rebuild(copy)  # the files outlive the launch: what runs is `interrupted` there
        for name in (*TABLES, *REPORT):
            _put(copy / name, folder / name)
    return folder / "report.html"


def made_in(folder: Path) -> list[str]:
    """The files of the tables and the report that are there, as paths in the sweep's folder."""
    paths = [path for name in (*TABLES, *REPORT) for path in (folder / name, *(folder / name).rglob("*"))]
    return [path.relative_to(folder).as_posix() for path in paths if path.is_file()]


def _put(made: Path, target: Path) -> None:
    """Put a file or folder in the place of another one, on whichever disk it was made."""
    if made.is_file():
        with atomic_write(target) as staging:
            shutil.copyfile(made, staging)
        return
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        shutil.copytree(made, staging)
        shutil.rmtree(target, ignore_errors=True)
        staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def load(files: SweepFiles, name: str, is_running: bool) -> Sweep:
    """The sweep's tables as its journal has them now. Raises SpecError if they cannot be analysed."""
    with _copied(files, name, is_running) as copy:
        try:
            sweep = load_sweep(copy)
            configs = sweep.configs  # now: the copy will be gone
        except AnalysisError as error:
            raise SpecError(str(error).replace(str(copy), files.where)) from error
    folder = None if files.fs is not None else Path(files.where)
    return replace(sweep, folder=folder, read_configs=lambda: configs)


@contextmanager
def _copied(files: SweepFiles, name: str, is_running: bool) -> Iterator[Path]:
    """A temporary folder with the sweep's files and the tables that follow from them."""
    with tempfile.TemporaryDirectory(prefix="sweep-") as scratch:
        copy = Path(scratch, name)
        copy.mkdir()
        for file in PRIMARY:
            try:
                (copy / file).write_bytes(files.read(file))
            except OSError as error:
                raise SpecError(f"{files.where}/{file}: cannot be read ({error.strerror})") from error
        with suppress(OSError):  # a sweep that MLflow has nothing of has none
            (copy / mlflow_file.FILE).write_bytes(files.read(mlflow_file.FILE))
        rebuild(copy, is_running)
        yield copy
