"""One self-contained HTML page about a sweep: `python -m analysis.report results/NAME` writes report.html.

It opens offline, and says no more than the data allow: which arm is ahead, by how much, what is still open.
"""

from __future__ import annotations

import argparse
import os
import platform
import shlex
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import pandas as pd

from analysis import findings, page, plots, stopping
from analysis.load import AnalysisError, Sweep, load_sweep, records
from analysis.stats import claim_of, rank_arms
from analysis.units import Unit, duration, name_of, p_text, si, title_of, unit_of

FILE = "report.html"


def write_report(folder: Path | str) -> Path:
    """Write `folder`/report.html from the results in `folder`, whole or not at all, and return its path.

    Raises AnalysisError where the results cannot be read or no trial has completed; an older page then stays.
    """
    folder = Path(folder)
    text = render(load_sweep(folder))
    target, staging = folder / FILE, folder / f".{FILE}.{os.getpid()}"
    try:
        staging.write_text(text, encoding="utf-8")
        staging.replace(target)
    finally:
        staging.unlink(missing_ok=True)
    return target


def render(sweep: Sweep) -> str:
    """The page as text. Raises AnalysisError where no trial has completed with a value of the objective."""
    ranked = rank_arms(sweep)
    if not (ranked["n"] > 0).any():
        counts = sweep.trials["status"].value_counts()
        found = findings.join([f"{number} {status}" for status, number in counts.items()]) or "no trials"
        reasons = sorted(set(sweep.trials["reason"]) - {""})[:3]
        raise AnalysisError(
            f"{sweep.name}: no trial has completed with a finite {sweep.metric} ({found}), so there is "
            f"nothing to report{'; reasons: ' + ' | '.join(reasons) if reasons else ''}"
        )
    return page.page(
        f"{sweep.name}: sweep report",
        [
            _opening(sweep, ranked),
            _ranking(sweep, ranked),
            _curves(sweep),
            _stops(sweep),
            _failures(sweep),
            _limits(sweep, ranked),
            _reproduce(sweep),
        ],
    )


def _opening(sweep: Sweep, ranked: pd.DataFrame) -> str:
    counts = sweep.trials["status"].value_counts()
    trials = ", ".join(f"{number} {str(status).replace('_', ' ')}" for status, number in counts.items())
    return "\n".join(
        [
            f"<h1>{page.escape(sweep.name)}</h1>",
            page.paragraph(f"{findings.question(sweep)} {findings.design(sweep)}", "lead"),
            page.paragraph(findings.verdict(sweep, ranked), "verdict lead"),
            page.paragraph(f"{len(sweep.trials)} trials: {trials}.", "note"),
        ]
    )


def _ranking(sweep: Sweep, ranked: pd.DataFrame) -> str:
    """Ranked on the objective; the difference and its p are those of the test split where there is one."""
    prefix = "test_" if sweep.test_metric else ""
    metric, unit, how = sweep.test_metric or sweep.metric, unit_of(sweep.metric), plots.looks(sweep)
    gap = "difference to baseline" + (f" ({unit.difference})" if unit.difference else "")
    heads = ["arm", "n", title_of(sweep.metric), *([title_of(metric)] if prefix else []), gap]
    claims = claim_of(sweep) == "confirmatory"
    heads += [*(["p (Holm)"] if claims else []), "parameters", "FLOPs / sample", "wall time"]
    rows = []
    for _, row in ranked.iterrows():
        cells = [page.cell(row["arm"], _outcome(row), how[row["arm"]].color), page.cell(str(row["n"]))]
        cells += [_mean(row, "", unit)] + ([_mean(row, prefix, unit)] if prefix else [])
        if row["arm"] == sweep.baseline:
            cells += [page.cell("baseline"), *([page.cell("–")] if claims else [])]
        else:
            cells += [_difference(row, prefix, unit), *([page.cell(_p(row, prefix))] if claims else [])]
        cells += [page.cell(si(row[name])) for name in ("num_params", "flops_per_sample")]
        rows.append([*cells, page.cell(duration(row["wall_s"]))])
    forest = page.figure(
        plots.ranked_intervals(sweep), "ranked",
        f"Mean {name_of(metric)}, its 95% interval over seeds, and each seed (open circles).",
    )  # fmt: skip
    return page.section(
        "Ranking",
        page.paragraph(_how_to_read(sweep, metric, unit), "note"),
        page.table(heads, rows),
        page.figures(forest, _size(sweep, ranked)),
    )


def _how_to_read(sweep: Sweep, metric: str, unit: Unit) -> str:
    family = len(sweep.arms) - 1
    split = f"Ranked on {name_of(sweep.metric)}, claims on {name_of(metric)}. " if sweep.test_metric else ""
    cut = " (cut where no accuracy can be)" if unit.suffix == "%" else ""
    p = "exploratory, therefore without p"
    if claim_of(sweep) == "confirmatory":
        p = f"p is the exact sign-flip test's, Holm-adjusted over {family} comparison{'s' * (family != 1)}"
    return (
        f"{split}Mean of the completed trials' last values over n seeds, with its 95% Student-t interval"
        f"{cut}. Differences are in {name_of(metric)}, paired over the seeds shared with {sweep.baseline}; "
        f"{p}. FLOPs are those of training; wall time is a trial's, on average."
    )


def _size(sweep: Sweep, ranked: pd.DataFrame) -> str:
    if not ranked.dropna(subset=["mean"])["num_params"].notna().any():
        return page.paragraph("The trainer does not say how many parameters the arms have.", "note")
    caption = (
        f"Mean {name_of(sweep.metric)} against parameters, with its 95% interval; completed trials only."
    )
    return page.figure(plots.accuracy_against_params(sweep), "params", caption)


def _mean(row: pd.Series, prefix: str, unit: Unit) -> str:
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    interval = f"[{unit.text(low)}, {unit.text(high)}]" if pd.notna(low) else ""
    return page.cell(unit.text(row[f"{prefix}mean"]), "no spread" if low == high else interval)


def _difference(row: pd.Series, prefix: str, unit: Unit) -> str:
    low, high = row[f"{prefix}diff_low"], row[f"{prefix}diff_high"]
    interval = f"[{unit.text(low, sign=True)}, {unit.text(high, sign=True)}]" if pd.notna(low) else ""
    return page.cell(unit.text(row[f"{prefix}diff"], sign=True), interval)


def _p(row: pd.Series, prefix: str) -> str:
    small = row[f"{prefix}n_pairs"] and row[f"{prefix}too_small"]
    return p_text(row[f"{prefix}p_holm"]) + (" (n too small)" if small else "")


def _outcome(row: pd.Series) -> str:
    """What became of an arm's trials, where not all completed."""
    words = {"pruned": "stopped early", "diverged": "diverged", "failed": "failed", "open": "not finished"}
    found = ((row[f"n_{status}"], said) for status, said in words.items())
    return ", ".join(f"{count} of {row['n_trials']} {said}" for count, said in found if count)


def _curves(sweep: Sweep) -> str:
    """The objective over samples and over FLOPs, and what the scheduler looked at, where that is another."""
    judged = str((sweep.space.get("scheduler") or {}).get("metric") or sweep.metric)
    wanted = [(sweep.metric, "samples"), (sweep.metric, "flops")]
    wanted += [(judged, "samples")] if judged != sweep.metric else []
    parts: list[str] = []
    missing: list[str] = []
    for metric, over in wanted:
        words = f"{name_of(metric)} over {'FLOPs' if over == 'flops' else over}"
        if metric in sweep.history and (sweep.history[metric].notna() & sweep.history[over].notna()).any():
            drawn = plots.learning_curves(sweep, metric, over)
            parts.append(page.figure(drawn, f"curve-{len(parts)}", f"{words[0].upper()}{words[1:]}."))
        else:
            missing.append(words)
    note = (
        "Thick line: mean of an arm's completed trials at the reports that all of them have; band: their "
        "range over seeds. Thin line to a cross: a single trial that was stopped or diverged."
    )
    absent = f"Not reported by the trainer: {findings.join(missing)}." if missing else ""
    return page.section("Learning curves", page.paragraph(f"{note} {absent}", "note"), page.figures(*parts))


def _stops(sweep: Sweep) -> str:
    """Which trials were stopped early, where, and on what value."""
    pruned = sweep.trials[sweep.trials["status"] == "pruned"]
    checks = [
        page.paragraph(text) for text in (stopping.audit_text(sweep), stopping.ties_text(sweep)) if text
    ]
    if pruned.empty:
        return page.section("Stopped early", page.paragraph("No trial was stopped early."), *checks)
    judged = str((sweep.space.get("scheduler") or {}).get("metric", "value"))
    unit, stops = unit_of(judged), sweep.decisions[sweep.decisions["action"] == "stop"].set_index("member")
    rows = []
    for trial in records(pruned.sort_values(["samples", "trial_id"])):
        member, at = f"{trial.arm}-d{trial.draw}", ["–"] * 3
        if member in stops.index:
            stop = stops.loc[[member]].iloc[-1]
            at = [si(stop["rung"]), unit.text(stop["value"]), unit.text(stop["cutoff"])]
        rows.append([page.cell(text) for text in (trial.trial_id, si(trial.samples), *at)])
    note = (
        "A draw is judged at a rung by the mean over its seeds, which stop together. None of these trials "
        "enters a mean above."
    )
    drawn = page.figure(
        plots.stopped_trials(sweep), "stopped",
        "Every trial as far as it trained. Dot: completed; cross: stopped; triangle: diverged or failed; "
        "bar: unfinished. Dotted: rungs at which a decision fell.",
    )  # fmt: skip
    heads = ["trial", "samples trained", "rung", title_of(judged), "cut-off"]
    return page.section(
        "Stopped early",
        page.paragraph(note, "note"),
        *checks,
        page.figures(drawn),
        page.table(heads, rows),
    )


def _failures(sweep: Sweep) -> str:
    lost = sweep.trials[sweep.trials["status"].isin(["diverged", "failed"])]
    if lost.empty:
        return ""
    rows = [
        [page.cell(text) for text in (trial.trial_id, trial.status, trial.reason or "–", si(trial.samples))]
        for trial in records(lost)
    ]
    return page.section(
        "Diverged and failed", page.table(["trial", "status", "reason", "samples"], rows, 2, 2)
    )


def _limits(sweep: Sweep, ranked: pd.DataFrame) -> str:
    return page.section("What cannot be concluded", page.bullets(findings.cannot_be_concluded(sweep, ranked)))


def _reproduce(sweep: Sweep) -> str:
    resolved = {key: value for key, value in sweep.resolved.items() if key != "baseline" and value}
    facts = [(str(k), str(v)) for k, v in resolved.items() if isinstance(v, str | int | float)]
    used = ("numpy", "pandas", "scipy", "matplotlib")
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in used)
    seeds = findings.seeds_text(sweep.trials["seed"].dropna().unique().tolist())
    facts += [
        ("seeds", seeds.partition(" ")[2]),
        ("analysed with", f"Python {platform.python_version()}, {versions}"),
    ]
    where = sweep.folder.as_posix() if sweep.folder else f"results/{sweep.name}"
    again = f"{sweep.name}-again"  # under its own name a finished sweep only shows its report again
    command = shlex.join(["python", "run_sweep.py", f"{where}/sweep.yaml", "--name", again])
    command += "\n" + shlex.join(["python", "-m", "analysis.report", where])
    space = ""
    if sweep.folder:
        text = (sweep.folder / "sweep.yaml").read_text(encoding="utf-8")
        space = f"<details><summary>sweep.yaml, as resolved</summary>{page.code(text)}</details>"
    return page.section("To reproduce", page.code(command), page.definitions(facts), space)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="a sweep's results, such as results/smoke")
    try:
        print(write_report(parser.parse_args(arguments).folder))
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
