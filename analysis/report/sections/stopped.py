"""Which trials were stopped early, where, and how arms compare where nobody had been stopped yet."""

from __future__ import annotations

from analysis.compare.ranking import arms_in_order
from analysis.format import AMOUNTS, si, title_of
from analysis.report import page
from analysis.report.sections.base import Results, Section
from analysis.stopping import audit as stopping
from analysis.stopping.common_samples import at_common_samples, replicate_of
from analysis.sweep import Sweep, records

TITLE = "Stopped early"


def _show(results: Results) -> list[page.Part]:
    sweep = results.sweep
    return [*_stops(sweep), *results.figures(TITLE), *common_samples(sweep), *_stop_table(sweep)]


def _stops(sweep: Sweep) -> list[page.Part]:
    checks = [page.Paragraph(text) for text in (stopping.audit_text(sweep), stopping.ties_text(sweep))]
    if not (sweep.trials["status"] == "pruned").any():
        return [page.Paragraph("No trial was stopped early."), *checks]
    note = (
        "A draw is judged at a rung by the mean over its seeds, which stop together. None of these trials "
        "enters a mean above."
    )
    return [page.Paragraph(note, "note"), *checks]


def common_samples(sweep: Sweep) -> list[page.Part]:
    """Arms of which trials were stopped, where nobody had been stopped yet; nothing where none was."""
    found = at_common_samples(sweep)
    if not (found["n_stopped"] > 0).any():
        return []
    unit = sweep.unit(sweep.metric)
    rows = []
    for _, row in found.set_index("arm", drop=False).loc[arms_in_order(sweep)].iterrows():
        ends = f"{unit.text(row['least'])} to {unit.text(row['most'])}"
        ahead = f"ahead in {row['ahead']} of {row['shared']}" if row["shared"] else ""
        cells = [page.Cell(str(row[name])) for name in ("arm", "n", "n_stopped")]
        cells.append(page.Cell(unit.text(row["median"]), ends if row["n"] > 1 else ""))
        rows.append([*cells, page.Cell(unit.text(row["diff"], sign=True), ahead)])
    replicate = replicate_of(sweep)
    note = (
        f"All trials after {si(found['at'].iloc[0])} {AMOUNTS[sweep.compared_over]}, the last number that "
        "every trial reached: those that were stopped later count up to there. "
        f"Median and range over {replicate}s"
        + (", each the mean over its seeds. " if replicate == "draw" else ". ")
        + (
            "Draws differ by their tuned values and are no replicates of an arm, so that no interval and "
            "no p is given. "
            if replicate == "draw"
            else "No interval and no p is given: no claim rests on the middle of training. "
        )
        + "It shows what to look at next."
    )
    suffix = unit.difference_suffix
    heads = ["arm", f"{replicate}s", "trials stopped later", f"median {title_of(sweep.metric, unit)}"]
    heads.append(f"median difference to baseline{suffix}")
    return [page.Paragraph(note, "note"), page.Table(heads, rows)]


def _stop_table(sweep: Sweep) -> list[page.Part]:
    """Which trials were stopped early, where, and on what value."""
    pruned = sweep.trials[sweep.trials["status"] == "pruned"]
    if pruned.empty:
        return []
    judged = str((sweep.space.get("scheduler") or {}).get("metric", "value"))
    unit, stops = sweep.unit(judged), sweep.decisions[sweep.decisions["action"] == "stop"].set_index("member")
    rows = []
    for trial in records(pruned.sort_values(["samples", "trial_id"])):
        member, at = f"{trial.arm}-d{trial.draw}", ["–"] * 3
        if member in stops.index:
            stop = stops.loc[[member]].iloc[-1]
            at = [si(stop["rung"]), unit.text(stop["value"]), unit.text(stop["cutoff"])]
        rows.append([page.Cell(text) for text in (trial.trial_id, si(trial.samples), *at)])
    return [page.Table(["trial", "samples trained", "rung", title_of(judged, unit), "cut-off"], rows)]


SECTION = Section(TITLE, _show)
