"""The commands that repeat the sweep, and what was run, on what, with what."""

from __future__ import annotations

import platform
import shlex
from importlib import metadata

from analysis.compare.spent import spent
from analysis.format import join, si
from analysis.report import page, sentences
from analysis.report.export import FOLDER
from analysis.report.sections.base import Results, Section
from analysis.sweep import Sweep

LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib")
DIGITS = 12  # of a hash: the whole one is in sweep.yaml


def _show(results: Results) -> list[page.Part]:
    sweep = results.sweep
    where = sweep.folder.as_posix() if sweep.folder else f"results/{sweep.name}"
    again = f"{sweep.name}-again"  # under its own name a finished sweep only shows its report again
    command = shlex.join(["python", "run_sweep.py", f"{where}/sweep.yaml", "--name", again])
    parent, _, name = where.rpartition("/")
    at = [] if parent == "results" else ["--storage", parent or "."]
    command += "\n" + shlex.join(["python", "-m", "sweeps", "report", name, *at])
    space: list[page.Part] = []
    if sweep.folder:
        text = (sweep.folder / "sweep.yaml").read_text(encoding="utf-8")
        space = [page.Details("sweep.yaml, as resolved", [page.Code(text)])]
    files = (
        f"The figures as PNG and PDF, and the table as LaTeX and CSV, are in `{where}/{FOLDER}/`."
        if sweep.folder
        else ""
    )
    return [page.Code(command), page.Definitions(_facts(sweep)), page.Paragraph(files), *space]


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """What was run, on what, with what."""
    resolved = sweep.resolved
    names = {"hash": "sweep's hash", "data": "hash of the data", "version": "version", "created": "begun"}
    cut = {"hash": DIGITS, "data": DIGITS}
    facts = [(said, str(resolved[key])[: cut.get(key)]) for key, said in names.items() if resolved.get(key)]
    of_launches = {"code": sweep.codes, "commit": sweep.commits, "launched on": sweep.hardware}
    facts += [(said, ", then ".join(dict.fromkeys(told))) for said, told in of_launches.items() if told]
    facts += [("ran with", sweep.ran_with)] if sweep.ran_with else []
    facts += [("total compute", cost)] if (cost := _cost(sweep)) else []
    for phase, trials in sweep.trials.groupby("phase"):
        seeds = sentences.seeds_text(trials["seed"].dropna().unique().tolist())
        facts.append((f"seeds of the {phase}", seeds.partition(" ")[2]))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return [*facts, ("analysed with", f"Python {platform.python_version()}, {versions}")]


def _cost(sweep: Sweep) -> str:
    found = spent(sweep)
    parts = {"core-hours": found.core_hours, "GPU-hours": found.gpu_hours, "training FLOPs": found.flops}
    said = [f"{si(amount)} {unit}" for unit, amount in parts.items() if amount]
    return f"{join(said)}, of all {len(sweep.trials)} trials" if said else ""


SECTION = Section("To reproduce", _show)
