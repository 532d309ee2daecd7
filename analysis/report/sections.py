"""The page's sections, as HTML: tables and sentences, with the figures that belong to them."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Sequence
from importlib import metadata

import pandas as pd

from analysis import figures as plots
from analysis.compare.comparisons import Rule
from analysis.compare.ranking import OPEN, claim_of
from analysis.figures.registry import Drawn
from analysis.format import duration, join, si, title_of, unit_of
from analysis.inference.power import MOST_SEEDS
from analysis.report import evidence_tables as evidence
from analysis.report import page, table
from analysis.report import sentences as findings
from analysis.report.export import FOLDER
from analysis.report.open_questions import Question, Step
from analysis.stopping import audit as stopping
from analysis.sweep import Sweep, records

LIBRARIES = ("numpy", "pandas", "scipy", "matplotlib")


def opening(sweep: Sweep, ranked: pd.DataFrame) -> str:
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


def body(sweep: Sweep, ranked: pd.DataFrame, drawn: Sequence[Drawn]) -> list[str]:
    """A section for each title in the table of figures, in its order; some have more than their figures."""
    texts = {
        "Ranking": _ranking(sweep, ranked),
        "Learning curves": [page.paragraph(_curves_note(sweep), "note")],
        "Stopped early": _stops(sweep),
    }
    tables = {
        "Ranking": evidence.tests(sweep, ranked),
        "Effect of each factor": evidence.factors(sweep),
        "Stopped early": evidence.common_samples(sweep) + _stop_table(sweep),
    }
    shown = {title: [figure for figure in drawn if figure.title == title] for title in _titles(drawn)}
    return [
        page.section(
            title,
            *texts.get(title, []),
            page.figures(*(page.figure(each.figure, each.name, each.caption) for each in figures)),
            tables.get(title, ""),
        )
        for title, figures in shown.items()
    ]


def _titles(drawn: Sequence[Drawn]) -> list[str]:
    found = dict.fromkeys(figure.title for figure in drawn)
    return list(found | {"Stopped early": None})  # said also where there is nothing to be drawn


def _ranking(sweep: Sweep, ranked: pd.DataFrame) -> list[str]:
    columns, how = table.columns(sweep), plots.looks(sweep)
    rows = [
        [
            page.cell(table.marked(sweep, row["arm"]), table.outcome(row), how[row["arm"]].color),
            *(page.cell(column.text(row), column.below(row)) for column in columns),
        ]
        for _, row in ranked.iterrows()
    ]
    footnote = table.unmatched_text(sweep)
    return [
        page.paragraph(f"{table.how_to_read(sweep)} Wall time is a trial's, on average.", "note"),
        page.table(["arm", *(column.head for column in columns)], rows, cards=True),
        page.paragraph(footnote, "note") if footnote else "",
    ]


def _curves_note(sweep: Sweep) -> str:
    missing = [
        f"{metric} over {over}"
        for metric, over in ((sweep.metric, "samples"), (sweep.metric, "flops"))
        if metric not in sweep.history
        or not (sweep.history[metric].notna() & sweep.history[over].notna()).any()
    ]
    return (
        "Thick line: mean of an arm's completed trials at the reports that all of them have; band: their "
        "range over seeds. Thin line to a cross: a single trial that was stopped or diverged."
        + (f" Not reported by the trainer: {join(missing)}." if missing else "")
    )


def _stops(sweep: Sweep) -> list[str]:
    checks = [
        page.paragraph(text) for text in (stopping.audit_text(sweep), stopping.ties_text(sweep)) if text
    ]
    if not (sweep.trials["status"] == "pruned").any():
        return [page.paragraph("No trial was stopped early."), *checks]
    note = (
        "A draw is judged at a rung by the mean over its seeds, which stop together. None of these trials "
        "enters a mean above."
    )
    return [page.paragraph(note, "note"), *checks]


def _stop_table(sweep: Sweep) -> str:
    """Which trials were stopped early, where, and on what value."""
    pruned = sweep.trials[sweep.trials["status"] == "pruned"]
    if pruned.empty:
        return ""
    judged = str((sweep.space.get("scheduler") or {}).get("metric", "value"))
    unit, stops = unit_of(judged), sweep.decisions[sweep.decisions["action"] == "stop"].set_index("member")
    rows = []
    for trial in records(pruned.sort_values(["samples", "trial_id"])):
        member, at = f"{trial.arm}-d{trial.draw}", ["–"] * 3
        if member in stops.index:
            stop = stops.loc[[member]].iloc[-1]
            at = [si(stop["rung"]), unit.text(stop["value"]), unit.text(stop["cutoff"])]
        rows.append([page.cell(text) for text in (trial.trial_id, si(trial.samples), *at)])
    return page.table(["trial", "samples trained", "rung", title_of(judged), "cut-off"], rows)


def failures(sweep: Sweep) -> str:
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


def limits(sweep: Sweep, ranked: pd.DataFrame) -> str:
    return page.section("What cannot be concluded", page.bullets(findings.cannot_be_concluded(sweep, ranked)))


def reproduce(sweep: Sweep) -> str:
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
    return page.section(
        "To reproduce", page.code(command), page.definitions(_facts(sweep)), page.paragraph(files), space
    )


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """What was run, on what, with what."""
    resolved = sweep.resolved
    names = {"hash": "sweep's hash", "data": "hash of the data", "version": "version", "created": "begun"}
    facts = [(said, str(resolved[key])) for key, said in names.items() if resolved.get(key)]
    codes = list(dict.fromkeys(sweep.codes))
    facts += [("code", ", then ".join(codes))] if codes else []
    facts += [("ran with", sweep.ran_with)] if sweep.ran_with else []
    for phase, trials in sweep.trials.groupby("phase"):
        seeds = findings.seeds_text(trials["seed"].dropna().unique().tolist())
        facts.append((f"seeds of the {phase}", seeds.partition(" ")[2]))
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in LIBRARIES)
    return [*facts, ("analysed with", f"Python {platform.python_version()}, {versions}")]


def still_open(sweep: Sweep, questions: Sequence[Question], steps: Sequence[Step]) -> str:
    """The comparisons that are not settled, and the launches that would settle them."""
    if len(sweep.arms) < 2:
        return ""
    if not questions:
        return page.section(
            "Comparisons still open", page.paragraph(f"None: each is settled against {sweep.baseline}.")
        )
    unit = unit_of(sweep.metric)
    suffix = f" ({unit.difference})" if unit.difference else ""
    rows = [
        [
            page.cell(f"{question.arm} – {sweep.baseline}"),
            page.cell(
                unit.text(question.diff, sign=True),
                f"SD {unit.text(question.sd)}" if question.n > 1 else "",
            ),
            page.cell(str(question.n)),
            _seeds(question),
        ]
        for question in questions
    ]
    heads = ["comparison", f"difference seen{suffix}", "shared seeds", "seeds that would settle it"]
    commands = [
        f"# {join(list(step.arms))} against {sweep.baseline}: {step.trials} trials, "
        f"{duration(step.seconds)} one after another\n{step.command}"
        for step in steps
    ]
    return page.section(
        "Comparisons still open",
        page.paragraph(_what_settles(sweep, steps), "note"),
        page.table(heads, rows, cards=True),
        page.code("\n".join(commands)) if commands else "",
    )


def _seeds(question: Question) -> str:
    if question.seeds:
        return page.cell(str(question.seeds), "to show equivalence" if question.as_equivalent else "")
    return page.cell(f"more than {MOST_SEEDS:,}" if question.n > 1 else "–")


def _what_settles(sweep: Sweep, steps: Sequence[Step]) -> str:
    family = len(sweep.arms) - 1
    said = (
        "Seeds at which a difference as large as the one seen, with the spread seen, would be found "
        f"significant four times in five, with {family} comparison{'s' * (family > 1)} counted"
        + ("; or held within the margin, where that takes fewer. " if Rule.of(sweep).margin else ". ")
    )
    waiting = int(sweep.trials["status"].isin(OPEN).sum())
    if waiting:
        return f"{said}{waiting} planned trials have not run to their end: first launch with `--resume`."
    if not steps and claim_of(sweep) == "exploratory":
        return f"{said}No trial of the evidence completed: see why under Diverged and failed."
    if not steps:
        return (
            f"{said}No number of seeds settles these: the differences are too small, or not known. Arms that "
            "end alike on every seed, as at 0%, need longer runs: a larger `max_t` under `--extend` goes on "
            "from their checkpoints."
        )
    price = "Priced from where the sweep stands, at the mean time of each arm's completed trials."
    if claim_of(sweep) == "exploratory":
        return (
            f"{said}`{FOLDER}/{steps[0].file}` is `sweep.yaml` with nothing stopped, on fresh seeds and "
            "under another name: `--extend` would only add to trials that were spared on their own results. "
            f"{price}"
        )
    return (
        f"{said}Each file is `sweep.yaml` with more seeds; `--extend` adds them to every arm and runs what "
        f"is missing. {price} To look after each seed and stop at the first small p makes false claims "
        "likelier than 5%: decide on the number once."
    )
