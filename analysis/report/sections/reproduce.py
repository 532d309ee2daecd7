"""The commands that repeat the sweep, and what was run, on what, with what."""

from __future__ import annotations

import platform
import shlex
from importlib import metadata

from analysis.report import page, sentences
from analysis.report.export import FOLDER
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep

LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib")


def _show(results: Results) -> list[str]:
    sweep = results.sweep
    where = sweep.folder.as_posix() if sweep.folder else f"results/{sweep.name}"
    again = f"{sweep.name}-again"  # under its own name a finished sweep only shows its report again
    command = shlex.join(["python", "run_sweep.py", f"{where}/sweep.yaml", "--name", again])
    command += "\n" + shlex.join(["python", "-m", "analysis.report", where])
    space = ""
    if sweep.folder:
        text = (sweep.folder / "sweep.yaml").read_text(encoding="utf-8")
        space = page.details("sweep.yaml, as resolved", page.code(text))
    files = (
        f"The figures as PNG and PDF, and the table as LaTeX and CSV, are in `{where}/{FOLDER}/`."
        if sweep.folder
        else ""
    )
    return [page.code(command), page.definitions(_facts(sweep)), page.paragraph(files), space]


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """What was run, on what, with what."""
    resolved = sweep.resolved
    names = {"hash": "sweep's hash", "data": "hash of the data", "version": "version", "created": "begun"}
    facts = [(said, str(resolved[key])) for key, said in names.items() if resolved.get(key)]
    codes = list(dict.fromkeys(sweep.codes))
    facts += [("code", ", then ".join(codes))] if codes else []
    facts += [("ran with", sweep.ran_with)] if sweep.ran_with else []
    for phase, trials in sweep.trials.groupby("phase"):
        seeds = sentences.seeds_text(trials["seed"].dropna().unique().tolist())
        facts.append((f"seeds of the {phase}", seeds.partition(" ")[2]))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return [*facts, ("analysed with", f"Python {platform.python_version()}, {versions}")]


SECTION = Section("To reproduce", _show)
