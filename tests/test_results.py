"""What docs/results.md and README.md say of a study follows from the files that are committed with it."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from scipy import stats

from analysis.compare.claims import claims_of
from analysis.compare.published import beside_published, rank_correlation, read_published
from analysis.inference.decision import Comparison, beaten, decide
from analysis.inference.samples import Pair
from analysis.inference.sequential import schedule_of
from analysis.report.verdicts import verdicts
from analysis.sweep import Sweep, load_sweep
from sweeps.record.journal import read_journal
from tests.analysis.played import played_space
from tests.conftest import ROOT

RESULTS = ROOT / "docs" / "results"
PAGE, README = (ROOT / "docs" / "results.md").read_text(), (ROOT / "README.md").read_text()
STUDIES = sorted(path.parent for path in RESULTS.glob("*/verdicts.json"))
METRIC = "test/exact_accuracy"
RESULT = ["n", "mean [95% interval]", "lowest, highest"]
COMPARED = ["against", "difference [repeated interval]", "p (adjusted)", "verdict"]
SIZE = ["parameters", "FLOPs a sample", "learning rate"]
Row = dict[str, str]


def section_of(study: str) -> str:
    """The section that links to the study's trials."""
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)
    [section] = [each for each in sections if f"(results/{study}/trials.parquet)" in each]
    return section


def says(text: str, *sentences: str) -> None:
    """That each of these is in a text, however its lines are broken."""
    text = " ".join(text.split())
    assert [sentence for sentence in sentences if sentence not in text] == []


def tables_of(study: str, *names: str) -> list[list[Row]]:
    """Of the study's section the tables whose first columns have these names."""
    lines = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in section_of(study).splitlines()
    ]
    found = []
    for name in names:
        start = next(place for place, cells in enumerate(lines) if cells[0] == name)
        rows = list(itertools.takewhile(lambda cells: len(cells) > 1, lines[start + 2 :]))
        found.append([dict(zip(lines[start], cells, strict=True)) for cells in rows])
    return found


def points(share: float, sign: str = "") -> str:
    return format(100 * share, f"{sign}.1f")


def word(number: int) -> str:
    words = ["none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    return [*words, "eleven", "twelve"][number] if number < 13 else str(number)


def listed(names: Iterable[str]) -> str:
    *others, last = sorted(names)
    return f"{', '.join(others)} and {last}" if others else last


def rate(lr: float) -> str:
    return f"{lr:.1e}".replace("e-0", "e-")


def result(trials: pd.DataFrame) -> Row:
    """What an arm came to, by hand."""
    values = trials[METRIC]
    half = stats.t.ppf(0.975, len(values) - 1) * values.sem()
    low, high = max(0.0, values.mean() - half), min(1.0, values.mean() + half)
    mean = f"{points(values.mean())}% [{points(low)}, {points(high)}]"
    return dict(
        zip(RESULT, [str(len(values)), mean, f"{points(values.min())}, {points(values.max())}"], strict=True)
    )


def compared(row: dict[str, Any] | None) -> Row:
    """A row of verdicts.json; None: the baseline."""
    if row is None:
        return dict(zip(COMPARED, ["–", "baseline", "–", "–"], strict=True))
    ends = ", ".join(points(row[end], "+") for end in ("low", "high"))
    p = "< 0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}"
    verdict = row["verdict"] + (f" at look {row['look']}" if row["look"] else "")
    cells = [row["against"], f"{points(row['diff'], '+')} [{ends}]", p, verdict]
    return dict(zip(COMPARED, cells, strict=True))


def size(trials: pd.DataFrame) -> Row:
    columns = ("num_params", "flops_per_sample", "optim.lr")
    [parameters], [flops], [lr] = (trials[column].unique() for column in columns)
    cells = [f"{parameters / 1e3:.1f}k", f"{flops / 1e6:.1f}M", rate(lr)]
    return dict(zip(SIZE, cells, strict=True))


def expected_tables(folder: Path) -> dict[str, list[Row]]:
    """The arms of a study, the best first, each with the arm that it is compared with; under question effects
    the arms alone, and then the effects."""
    sweep = load_sweep(folder)
    trials = sweep.trials.merge(sweep.configs[["trial_id", "optim.lr"]].rename(columns={"optim.lr": "lr"}))
    trials["optim.lr"] = trials["lr"].astype(float)
    evidence = trials[(trials["phase"] == "evidence") & (trials["status"] == "completed")]
    comparisons = json.loads((folder / "verdicts.json").read_text())["comparisons"]
    by_arm = {row["arm"]: row for row in comparisons}
    of_effects = sweep.space["evidence"]["question"] == "effects"
    arms = []
    for arm in evidence.groupby("arm")[METRIC].mean().sort_values(ascending=False).index:
        mine = evidence[evidence["arm"] == arm]
        decided = {} if of_effects else compared(by_arm.get(arm))
        arms.append({"arm": arm, **result(mine), **decided, **size(mine)})
    effects = [{"effect": row["arm"], **compared(row)} for row in comparisons if of_effects]
    return {"arm": arms} | ({"effect": effects} if of_effects else {})


def test_there_is_a_study() -> None:
    assert STUDIES


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_table_follows_from_the_trials(folder: Path) -> None:
    expected = expected_tables(folder)
    assert tables_of(folder.name, *expected) == list(expected.values())


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_the_verdicts_follow_from_the_trials(folder: Path) -> None:
    """Every look taken anew, from the values in trials.parquet alone."""
    sweep = load_sweep(folder)
    claims = claims_of(sweep)
    rule, looks = claims.rule, claims.looks
    if not looks:
        pytest.skip("question effects is answered once, at the end, and computed anew below")
    values: dict[str, dict[int, float]] = {}
    for row in sweep.trials[sweep.trials["phase"] == "evidence"].sort_values("seed").itertuples():
        values.setdefault(row.arm, {})[row.seed] = float(sweep.trials.loc[row.Index, METRIC])
    found = [Comparison(*pair) for pair in rule.pairs(sweep.arms, sweep.baseline)]
    for number, seeds in enumerate(looks):
        out = beaten(found) if rule.question == "best" else set()
        first = {
            arm: dict(list(by_seed.items())[:seeds])
            for arm, by_seed in values.items()
            if arm not in out and len(by_seed) >= seeds
        }
        pairs = {
            (each.arm, each.against): Pair(first[each.arm], first[each.against], rule, limits=(0.0, 1.0))
            for each in found
            if {each.arm, each.against} <= first.keys()
        }
        found = decide(found, pairs, rule, number, schedule_of(looks), rule.level(0))
    by_pair = {each.arm_and_against: each for each in found}
    assert by_pair.keys() == {row.arm_and_against for row in claims.recorded}
    for row in claims.recorded:
        each = by_pair[row.arm_and_against]
        for name in ("diff", "low", "high", "p", "p_adjusted"):
            assert getattr(row, name) == pytest.approx(getattr(each, name), abs=1e-9, nan_ok=True), (
                row.arm,
                name,
            )
        assert (row.verdict, row.look, row.seeds) == (each.verdict, each.look, each.seeds)


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_what_is_committed_is_what_the_code_makes_of_the_trials(folder: Path) -> None:
    assert verdicts(load_sweep(folder)) == json.loads((folder / "verdicts.json").read_text())


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_how_a_study_was_set_up(folder: Path) -> None:
    """Its code; and where the section does not leave them to the study above, what all its trials share."""
    sweep, text = load_sweep(folder), section_of(folder.name)
    config = {key: values.iloc[0] for key, values in sweep.configs.items() if values.nunique() == 1}
    seeds = sorted(sweep.trials.loc[sweep.trials["phase"] == "evidence", "seed"].unique())
    said = [f"code of the trials was that of commit {commit[:7]}" for commit in sweep.commits]
    if "seeds and question of the study above" not in text:
        arms = "" if "search" in sweep.space else f"{word(len(sweep.arms)).title()} arms with "
        steps = config["train.max_samples"] // config["train.batch_size"]
        said += [
            f"{arms}{word(len(seeds))} {'seeds each' if arms else 'fresh seeds'} ({seeds[0]} to {seeds[-1]})",
            f"question is `{sweep.space['evidence']['question']}`",
            f" {config['model.halt_max_steps']} supervision steps, {config['train.max_samples']:,} samples "
            f"({steps:,} steps of {config['train.batch_size']} rows), {config['data.num_test']} test puzzles",
        ]
        for key, sentence in {
            "model.hidden_size": "{} channels",
            "model.h_cycles": "{} H- and ",
            "model.l_cycles": " {} L-cycles, ",
            "optim.lr": "one learning rate ({:.0e})",
        }.items():
            said += [sentence.format(config[key]).replace("e-0", "e-")] if key in config else []
    says(text, *said)


def test_the_sentences_of_mini_layers() -> None:
    """The numbers of its section that stand in sentences, from its trials."""
    sweep = load_sweep(RESULTS / "mini_layers")
    by_arm = sweep.trials.groupby(["model.mixer.kind", "model.num_layers"])[METRIC]
    mean = 100 * by_arm.mean()
    reports = sweep.history.merge(sweep.trials[["trial_id", "model.mixer.kind", "model.num_layers"]])
    keys = ["model.mixer.kind", "model.num_layers", "samples"]
    solved = reports.groupby(keys)["val/exact_accuracy"].mean()["mlp"]
    deep = by_arm.get_group(("mlp", 4))
    gain = {mixer: mean[mixer, 1] - mean[mixer, 2] for mixer in ("mlp", "attention")}
    loss = {mixer: mean[mixer, 2] - mean[mixer, 4] for mixer in ("mlp", "attention")}
    says(
        section_of("mini_layers"),
        f"All {(sweep.trials['status'] == 'completed').sum()} trials completed",
        f"After 9,600 samples the MLP solves {solved[1, 9600]:.0%} of val with one layer and "
        f"{solved[2, 9600]:.0%} with two; with four it is at {solved[4, 16000]:.0%} after 16,000",
        f"{word((deep == 0).sum()).capitalize()} of its twelve runs with four layers end at 0.0%, the other "
        f"{word((deep > 0).sum())} between {points(deep[deep > 0].min())} and {points(deep.max())}%",
        f"with attention ({gain['attention']:.1f} points) than with the MLP ({gain['mlp']:.1f}): "
        f"an interaction of {gain['attention'] - gain['mlp']:.1f} points",
        f"({loss['mlp']:.1f} points with the MLP, {loss['attention']:.1f} with attention",
        f"({mean['mlp', 2]:.1f} against {mean['mlp', 1]:.1f}%), and a margin of "
        f"{word(round(100 * sweep.space['evidence']['margin']))} points was asked",
    )
    trained = sweep.trials.groupby("arm")[["train/exact_accuracy", METRIC]].mean()
    assert (trained["train/exact_accuracy"] <= trained[METRIC]).all()
    curves = reports.groupby(keys)["val/exact_accuracy"].mean().unstack("model.num_layers")
    assert (curves[1] >= curves[2]).all() and (curves[2] >= curves[4]).all()


def test_the_sentences_of_mini_cycles() -> None:
    """The numbers of its section that stand in sentences, from its trials."""
    sweep, published = load_sweep(RESULTS / "mini_cycles"), space_of("base/trm_sudoku")[1]["model"]
    trials = sweep.trials
    [one] = [row for row in verdicts(sweep)["comparisons"] if row["arm"] == "model.h_cycles=1"]
    mean = 100 * trials.groupby(["model.h_cycles", "model.l_cycles"])[METRIC].mean().unstack()
    cost = trials.groupby(["model.h_cycles", "model.l_cycles"])["flops_per_sample"].first().unstack()
    more = mean.mean(axis=1)
    says(
        section_of("mini_cycles"),
        f"All {(trials['status'] == 'completed').sum()} trials completed",
        f"four L-cycles instead of two add {(mean[4] - mean[2]).mean():.1f} points",
        f"(one instead of two: {more[1] - more[2]:.1f} points more, with an interval from "
        f"{points(-one['low'])} less to {points(one['high'])} more",
        f"{word(published['h_cycles'])} H-cycles of {word(published['l_cycles'])} L-cycles, as published",
        f"three: {more[3] - more[2]:.1f} more)",
        f"a sample costs {cost.loc[2, 4] / cost.loc[2, 2]:.2f} times the FLOPs",
    )
    assert (cost[4] / cost[2]).round(2).nunique() == 1


def test_the_sentences_of_mini_cycles_flops() -> None:
    """The numbers of its section that stand in sentences, from its trials and from those of mini_cycles."""
    sweep, at_samples = load_sweep(RESULTS / "mini_cycles_flops"), load_sweep(RESULTS / "mini_cycles").trials
    factors = ["model.h_cycles", "model.l_cycles"]
    trials = sweep.trials
    mean = 100 * trials.groupby(factors)[METRIC].mean().unstack()
    samples = trials.groupby(factors)["samples"].first().unstack().astype(int)
    reports = sweep.history.merge(trials[["trial_id", "arm"]])
    solved = reports.pivot_table(index="arm", columns="samples", values="val/exact_accuracy")
    loss, more = mean[2] - mean[4], mean.mean(axis=1)
    both = trials.merge(at_samples, on=[*factors, "seed"], suffixes=("", " at samples"))
    same = both[(both["model.h_cycles"] == 2) & (both["model.l_cycles"] == 2)]
    before = 100 * at_samples.groupby("model.l_cycles")[METRIC].mean()
    there, here = 100 * same[f"{METRIC} at samples"], 100 * same[METRIC]
    says(
        section_of("mini_cycles_flops"),
        f"All {(trials['status'] == 'completed').sum()} trials completed",
        f"the {trials['flops'].mean() / 1e12:.2f} TFLOP",
        f"needs for {samples.loc[2, 2]:,} samples: from {samples.loc[3, 4]:,} samples with three H- and four "
        f"L-cycles to {samples.loc[1, 2]:,} with one and two",
        f"adds {more[1] - more[2]:.1f} points and three cost {more[2] - more[3]:.1f}",
        f"four L-cycles instead of two cost {loss.mean():.1f}",
        f"with one H-cycle ({loss[1]:.1f} points) than with two ({loss[2]:.1f}): an interaction of "
        f"{loss[2] - loss[1]:.1f} points",
        f"with three H-cycles ({loss[3]:.1f} points)",
        f"after 19,200 samples the arms that got so far solve {100 * solved[19_200].min():.0f} to "
        f"{solved[19_200].max():.0%} of val, after 28,800 they solve "
        f"{100 * solved[28_800].min():.0f} to {solved[28_800].max():.0%}",
        f"{samples.loc[3, 4]:,} come before the steep part of the curves, {samples.loc[1, 2]:,} after it",
        f"at {mean.loc[3, 4]:.1f}%, could lose no more",
        f"of 100 steps is {6_400 / samples.loc[3, 4]:.1%} of the shortest run and "
        f"{6_400 / samples.loc[1, 2]:.1%}",
        f"At equal samples four L-cycles were {before[4] - before[2]:.1f} points better",
        f"({there.mean():.1f}% there, {here.mean():.1f}% here); its runs differ by up to "
        f"{(here - there).abs().max():.1f} points",
    )
    assert trials["flops"].max() / trials["flops"].min() < 1.01


@pytest.fixture(params=["made up", *(folder.name for folder in STUDIES)])
def of_effects(request: pytest.FixtureRequest, tmp_path: Path) -> Sweep:
    """A shipped study with question effects; and one with made-up results, with and without any of these."""
    if request.param == "made up":
        return load_sweep(played_space(tmp_path, ROOT / "search_spaces" / "mini_layers.yaml"))
    sweep = load_sweep(RESULTS / request.param)
    if sweep.space["evidence"]["question"] != "effects":
        pytest.skip("it asks no effects")
    return sweep


def test_effects_by_hand(of_effects: Sweep) -> None:
    """The mean over the other factors' levels of the difference of two arms' means, its p by Welch's test
    with Satterthwaite's degrees of freedom less one, as docs/statistics.md says."""
    trials, factors = of_effects.trials, of_effects.factors
    done = trials[(trials["status"] == "completed") & (trials["phase"] == "evidence")]
    found = {row["arm"]: row for row in verdicts(of_effects)["comparisons"] if " x " not in row["arm"]}
    assert found
    for name, row in found.items():
        factor, level = name.split("=", 1)
        reference = row["against"].split("=", 1)[1]
        others = [other for other in factors if other != factor]
        cells = done.groupby([*others, factor])[METRIC].agg(["mean", "var", "count"]).reset_index()
        two = [cells[cells[factor].astype(str) == each].set_index(others) for each in (level, reference)]
        weight = 1 / len(two[0])
        diff = weight * (two[0]["mean"] - two[1]["mean"]).sum()
        parts = pd.concat([weight**2 * cell["var"] / cell["count"] for cell in two])
        freedom = pd.concat([cell["count"] - 1 for cell in two])
        df = max(parts.sum() ** 2 / (parts**2 / freedom).sum() - 1, freedom.min())
        assert row["diff"] == pytest.approx(diff)
        assert row["p"] == pytest.approx(2 * stats.t.sf(abs(diff) / parts.sum() ** 0.5, df))


def expected_published(sweep: Sweep, figures: Path) -> tuple[list[Row], str]:
    """The rows of a table of the arms beside published figures, in the published order, and the rank
    correlation with its interval."""
    table = beside_published(sweep, read_published(figures))
    rows = []
    for row in table.to_dict("records"):
        is_baseline = row["arm"] == sweep.baseline
        ends = f"{points(row['diff_low'], '+')}, {points(row['diff_high'], '+')}"
        rows.append(
            {
                "row": row["arm"].removeprefix("row="),
                "published": f"{points(row['published'])}%",
                "published rank": f"{row['published_rank']:g}",
                "here": f"{points(row['mean'])}%",
                "rank": f"{row['mean_rank']:g}",
                "published difference": "–" if is_baseline else points(row["published_diff"], "+"),
                "difference [repeated interval]": "–"
                if is_baseline
                else f"{points(row['diff'], '+')} [{ends}]",
                "agrees": row["agrees"] or "–",
            }
        )
    found = rank_correlation(table)
    return rows, f"{found.value:.2f} (95% interval {found.low:.2f} to {found.high:.2f})"


def test_the_rows_of_mini_table1_beside_the_published_ones() -> None:
    folder = RESULTS / "mini_table1"
    if folder not in STUDIES:
        pytest.skip("mini_table1 has not been run to its end")
    rows, correlation = expected_published(load_sweep(folder), ROOT / "search_spaces" / "trm_table1.csv")
    assert tables_of("mini_table1", "row") == [rows]
    assert correlation in section_of("mini_table1")


def time_of(folder: Path) -> tuple[int, int, int]:
    """The minutes of all launches without the time between them, the launches, the most trials at once."""
    launches: list[list[float]] = []
    running, at_once = set[str](), 0
    for event in read_journal(folder / "journal.jsonl"):
        if event["event"] == "launch":
            launches.append([])
            running = set()
        elif event["event"] == "start":
            running.add(event["trial_id"])
        elif event["event"] in ("end", "retry"):
            running.discard(event["trial_id"])
        launches[-1].append(event["time"])
        at_once = max(at_once, len(running))
    return round(sum(times[-1] - times[0] for times in launches) / 60), len(launches), at_once


def clock(minutes: int) -> str:
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_how_long_a_study_took(folder: Path) -> None:
    minutes, launches, at_once = time_of(folder)
    launched = f", in {word(launches)} launches" if launches > 1 else ""
    assert f"It took {clock(minutes)} on {word(at_once)} cores{launched}" in section_of(folder.name)
    assert all(f" {at_once} cores" in machine for machine in load_sweep(folder).hardware)


def test_the_readme_says_how_long_each_study_took() -> None:
    """In its table of what was run, in words, of all studies whose journal is kept."""
    lasted = dict(re.findall(r"^\| `(\w+)\.yaml` \|.*\| (.*) \|$", README, re.MULTILINE))
    for folder in (journal.parent for journal in RESULTS.glob("*/journal.jsonl")):
        minutes, _, at_once = time_of(folder)
        words = [f"{minutes} minutes", f"{word(round(minutes / 60))} hours"]
        words += ["half an hour"] if round(minutes, -1) == 30 else []
        said = rf"({'|'.join(words)}) on (one or )?{word(at_once)} (busy )?cores?$"
        assert re.search(said, lasted[folder.name]), (folder.name, said)


def test_what_a_trial_of_mini_mixers_took() -> None:
    trials = pd.read_parquet(RESULTS / "mini_mixers" / "trials.parquet")
    page = (ROOT / "docs" / "mixers.md").read_text()
    for arm, seconds in trials[trials["phase"] == "evidence"].groupby("arm")["wall_s"].mean().items():
        assert f"| {arm} | {seconds:.0f} |" in page


def test_the_further_steps_of_mini_mixers() -> None:
    trials = pd.read_parquet(RESULTS / "mini_mixers" / "trials.parquet")
    means = trials[trials["phase"] == "evidence"].groupby("arm").mean(numeric_only=True)
    for arm, row in means.iterrows():
        shares = [f"{points(row[f'test/exact_accuracy_at_{steps}'])}%" for steps in (1, 8, 32, 128)]
        auroc = f"{row['test/q_auroc']:.2f}".replace("nan", "–")
        assert f"| {arm} | {' | '.join([*shares, auroc])} |" in PAGE


def test_the_sentences_of_mini_mixers() -> None:
    """The numbers of its section that stand in sentences, from its trials."""
    folder = RESULTS / "mini_mixers"
    sweep, claims = load_sweep(folder), json.loads((folder / "verdicts.json").read_text())
    trials = sweep.trials.drop(columns="optim.lr").merge(sweep.configs[["trial_id", "optim.lr"]])
    search, evidence = (trials[trials["phase"] == phase] for phase in ("search", "evidence"))
    arms = evidence.groupby("arm")
    reports = sweep.history.merge(evidence[["trial_id", "arm"]])
    solved = reports.pivot_table(index="arm", columns="samples", values="val/exact_accuracy")
    early, hybrids = solved[28_800], ["attention_mlp", "mlp_gated_deltanet"]
    mamba3 = reports[reports["arm"] == "mamba3"].groupby("samples")["val/cell_accuracy"].mean()
    gain = arms["test/exact_accuracy_at_32"].mean() - arms["test/exact_accuracy_at_8"].mean()
    lr = arms["optim.lr"].first().astype(float)
    highest = lr[lr == lr.max()].index
    low, mean, high = arms[METRIC].min(), arms[METRIC].mean(), arms[METRIC].max()
    tried = search.set_index(["arm", "draw"])["val/exact_accuracy"]
    chosen = evidence[["arm", "draw"]].drop_duplicates().set_index(["arm", "draw"]).index
    size, cost = (arms[column].first().sort_values() for column in ("num_params", "flops_per_sample"))
    verdict = [row.verdict for row in claims_of(sweep).recorded]
    seeds = arms["seed"].nunique()
    saved = 8 * len(seeds) - len(evidence)
    says(
        section_of("mini_mixers"),
        f"({rate(search['optim.lr'].astype(float).min())} to {rate(lr.max())})",
        f"{len(trials)} trials were run, of at most {len(trials) + saved}: {len(search)} of the search, "
        f"of which {word((search['status'] == 'pruned').sum())} was stopped early, and "
        f"{len(evidence)} of evidence",
        f"{word((seeds < 8).sum()).title()} arms were shown to be worse and ran no further: "
        f"mamba3 at {word(seeds['mamba3'])} seeds, mamba at {word(seeds['mamba'])} and mamba2 at "
        f"{word(seeds['mamba2'])}, which saved {word(saved)} trials",
        f"After 28,800 samples the two hybrids solve {early[hybrids].min():.0%} and "
        f"{early[hybrids].max():.0%} of val, mlp {early['mlp']:.0%}, and no other arm more than "
        f"{points(early.drop([*hybrids, 'mlp']).max())}%; "
        f"mlp is at {solved.loc['mlp', 57_600]:.0%} after 57,600",
        f"the best arm is one of {listed(claims['best_set'])}",
        f"Of the {len(verdict)} pairs {verdict.count('better') + verdict.count('worse')} differ",
        f"**Not settled:** {verdict.count('not settled')} pairs",
        f"val's accuracy of cells rises to {mamba3.iloc[-1]:.2f} while no puzzle is solved",
        f"({size.min() / 1e3:.1f}k to {size.max() / 1e3:.1f}k parameters)",
        f"({cost.min() / 1e6:.0f} to {cost.max() / 1e6:.0f} MFLOP a sample)",
        *(f"{arm} from {points(low[arm])}% to {points(high[arm])}%" for arm in ("attention", "mlstm")),
        f"closed after {word(seeds['mamba'])} and {word(seeds['mamba2'])} seeds, worse than another arm",
        f"it was closed after {word(seeds['mamba3'])} seeds",
        f"means are now mlp {points(mean['mlp'])}%, mamba {points(mean['mamba'])}% ({word(seeds['mamba'])} "
        f"seeds), mamba2 {points(mean['mamba2'])}% ({word(seeds['mamba2'])}) and attention "
        f"{points(mean['attention'])}%",
        f"{listed(highest)} sit at the highest rate that was tried ({rate(lr.max())})",
        f"mamba and mamba2, are at {rate(lr['mamba'])} because",
        f"mamba and mamba2 have another rate ({rate(lr['mamba2'])} instead",
        f"{word((gain > 0).sum()).capitalize()} arms' means are higher after 32 steps than after 8",
    )
    with_mlp = {"mlp", *hybrids}
    assert set(size.index[-3:]) == with_mlp and with_mlp < set(cost.index[-4:])
    assert solved.loc["mamba3"].max() == 0 and gain.min() >= 0
    assert tried[chosen].droplevel("draw").to_dict() == tried.groupby("arm").max().to_dict()


def test_the_rule_of_mini_mixers() -> None:
    """Its search, looks and level, what they come to for mlp, and how far this is from what is published."""
    sweep = load_sweep(RESULTS / "mini_mixers")
    here, published = (space_of(f"base/{name}")[1] for name in ("mini_6x6", "trm_sudoku"))
    claims, search, scheduler = claims_of(sweep), sweep.space["search"], sweep.space["scheduler"]
    found = {row.arm_and_against: row for row in claims.recorded}
    mlp, rwkv7 = found["mlp_gated_deltanet", "mlp"], found["rwkv7", "mlp"]
    margin, reserve = (word(round(100 * share)) for share in (claims.rule.margin or 0, claims.rule.reserve))
    steps = [each["train"]["max_samples"] / each["train"]["batch_size"] for each in (published, here)]
    width = [each["model"]["hidden_size"] for each in (published, here)]
    paper = read_published(ROOT / "search_spaces" / "trm_table1.csv")
    says(
        section_of("mini_mixers"),
        f"{word(search['draws_per_arm'])} Sobol draws",
        f"on seed {listed(map(str, search['seeds']))} under the {scheduler['kind']} rule",
        f"looks after {listed(map(str, claims.looks))} of them, over all {len(claims.recorded)} pairs",
        f"equivalent within {margin} points",
        f"(question `{claims.rule.question}`, Welch's test, {word(len(claims.looks))} looks, a margin of "
        f"{margin} points, {claims.level + claims.rule.reserve:.0%} over all comparisons, of which {reserve} "
        "percentage point is kept",
        f"mlp is {points(mlp.diff)} points below mlp_gated_deltanet, with an interval from "
        f"{points(mlp.high)} below to {points(-mlp.low)} above",
        f"mlp and rwkv7 are {points(-rwkv7.diff)} points apart, and just not settled "
        f"(p {rwkv7.p_adjusted:.3f}, where {claims.level} is asked)",
        f"{word(width[0] // width[1])} times wider and which trains for {steps[0] / steps[1]:.0f} times",
        f"has attention at {points(paper['row=attention'])}% and the MLP at {points(paper['row=trm'])}%",
        f"**More supervision steps than in training ({here['model']['halt_max_steps']}).**",
        f"that are read to {here['eval']['depth_steps']} steps",
        f"Bonferroni over {len(found)} comparisons where open",
        f"adjusted over the {len(found)} (Holm's",
        f"judged at multiples of {scheduler['grace_period']:,.0f} samples, while trials report at multiples "
        f"of {here['eval']['every_samples']:,}",
    )


def test_the_sentences_of_mini_hybrids() -> None:
    """How it was run, which two came first, and what the MLP adds, to the nearest quarter."""
    sweep, (minutes, _, at_once) = load_sweep(RESULTS / "mini_hybrids"), time_of(RESULTS / "mini_hybrids")
    trials, seeds = sweep.trials, word(sweep.trials["seed"].nunique())
    mean = trials.groupby(trials["arm"].str.contains("mlp")).mean(numeric_only=True)
    more = (4 * mean.loc[True] / mean.loc[False]).round() / 4
    assert (more["num_params"], more["flops_per_sample"]) == (1.25, 1.5)
    says(
        section_of("mini_hybrids"),
        f"{trials['samples'].max():,.0f} samples as above, **{seeds} seed**",
        f"it took {minutes} minutes on {word(at_once)} core",
        f"By val, which chose, {listed(trials.nlargest(2, 'val/exact_accuracy')['arm'])} came first",
        "a quarter more parameters than the others",
        "and half as many FLOPs again",
    )


@pytest.mark.parametrize(("study", "page"), [("mini_hybrids", "results.md"), ("mini_frontier", "mixers.md")])
def test_a_first_look_has_its_trials_values(study: str, page: str) -> None:
    """One seed an arm: arm, val, test, parameters."""
    trials = pd.read_parquet(RESULTS / study / "trials.parquet")
    text = (ROOT / "docs" / page).read_text()
    assert not trials["arm"].duplicated().any() and set(trials["status"]) == {"completed"}
    for _, row in trials.iterrows():
        shares = f"{points(row['val/exact_accuracy'])}% | {points(row[METRIC])}%"
        assert f"| {row['arm']} | {shares} | {row['num_params'] / 1e3:.1f}k |" in text


def test_the_readmes_result_is_mini_mixers() -> None:
    sweep, (minutes, _, at_once) = load_sweep(RESULTS / "mini_mixers"), time_of(RESULTS / "mini_mixers")
    trials, search = sweep.trials, sweep.space["search"]
    evidence = trials[trials["phase"] == "evidence"]
    seeds, size = evidence.groupby("arm").size().map(word), evidence["num_params"].round(-3)
    result = " ".join(README.partition("**A result")[2].partition("![")[0].split())
    names = {"mlp_gated_deltanet": "with Gated DeltaNet", "attention_mlp": "with attention", "mlp": "alone",
             "rwkv7": "RWKV-7", "mamba": "Mamba", "kda": "KDA", "gated_deltanet": "Gated DeltaNet",
             "attention": "attention", "mamba2": "Mamba-2", "mlstm": "mLSTM",
             "mamba3": "Mamba-3"}  # fmt: skip
    means = evidence.groupby("arm")[METRIC].mean()
    assert names.keys() == set(means.index)
    for arm, mean in means.items():
        assert f" {names[arm]} {points(mean)}%" in f" {result}"
    says(
        result,
        f"models of {size.min():,.0f} to {size.max():,.0f} parameters",
        f"of {sweep.space['base']['data']['num_test']} test puzzles",
        f"(means of {seeds['mamba3']} to {seeds['mlp']} seeds)",
        f"the best of {word(search['draws_per_arm'])}, tried once each on another seed",
        f"{len(trials)} trials, in {clock(minutes)} on {word(at_once)} busy CPU cores",
    )
    says(README, f"{word(len(means))} arms: an afternoon")
    assert set(trials["status"]) == {"completed", "pruned"} and len(search["seeds"]) == 1
    says(README, f"compared after {listed(map(str, claims_of(sweep).looks))}")
    best = json.loads((RESULTS / "mini_mixers" / "verdicts.json").read_text())["best_set"]
    assert set(best) == set(means.sort_values().index[-3:]) and "one of the first three" in result


def test_the_price_of_the_published_recipe_and_the_measured_error_rates() -> None:
    """Trials, and rows of test that are read to more steps, from the spaces; rates, from the simulation."""
    given, space = space_of("base/trm_sudoku")[1], space_of("mixers")[1]
    arms = len(space["ablate"]["model.mixer.kind"])
    search, evidence = arms * space["search"]["draws_per_arm"], arms * len(space["seeds"])
    simulated = json.loads((ROOT / "docs" / "bench" / "coverage.json").read_text())
    rates = pd.DataFrame(simulated["false_claims"]).query("not more_baseline")
    false = rates.groupby("pairing")["false"].max()
    says(
        README,
        f"is at most {search + evidence} of them: {search} of the search and {evidence} of the evidence",
        f"at most {false['paired']:.1%} paired, {false['unpaired']:.1%} unpaired",
    )
    rows, steps = given["eval"]["depth_rows"], given["eval"]["depth_steps"]
    part, margin = steps / given["train"]["max_samples"], 1.96 * (0.25 / rows) ** 0.5
    [of_test] = re.findall(r"([\d,]+) rows would take", PAGE)
    says(
        PAGE,
        f"reads {rows:,} rows to {steps} steps: a 95% margin of error of at most {points(margin)} points, "
        f"for {rows * part:.0%} of the run's supervision steps",
        f"would take {int(of_test.replace(',', '')) * part:.2f} times the steps of the training",
    )


def pilot_of(study: str, run: str = "") -> tuple[int, dict[int, float]]:
    """Of a pilot run its seed, and the share of val puzzles solved by the number of samples."""
    folder = RESULTS / study / "pilot" / run
    reports = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    seed = json.loads((folder / "run.json").read_text())["seed"]
    return seed, {report["samples"]: report["val/exact_accuracy"] for report in reports}


def space_of(study: str) -> tuple[str, dict[str, Any]]:
    """A shipped search space: its comments as one line, and its content."""
    space = (ROOT / "search_spaces" / f"{study}.yaml").read_text()
    comments = " ".join(line.removeprefix("# ") for line in space.splitlines() if line.startswith("#"))
    return comments, yaml.safe_load(space)


def test_the_horizon_of_mini_table1_comes_from_its_pilot() -> None:
    """Of the first row alone, on a seed that is not among the study's."""
    seed, solved = pilot_of("mini_table1")
    text, space = space_of("mini_table1")
    first, second = f"{solved[28_800]:.0%}", f"{solved[33_600]:.0%}"
    assert f"at 28,800 samples it had solved {first} of 128 val puzzles, at 33,600 {second}" in text
    assert space["scheduler"]["max_t"] == 33_600
    assert f"seed {seed}" in text and seed not in space["seeds"]


def test_the_puzzles_and_the_horizon_of_mini_layers_come_from_its_pilots() -> None:
    """On a seed that is not among the study's, with two layers."""
    text, space = space_of("mini_layers")
    (seed, on_6x6), (_, attention), (_, mlp) = (
        pilot_of("mini_layers", run) for run in ("6x6_attention", "4x4_attention", "4x4_mlp")
    )
    assert max(on_6x6) == 115_200 and not any(on_6x6.values())
    horizon = min(samples for samples, share in attention.items() if share >= 0.5)
    assert space["scheduler"]["max_t"] == horizon
    assert f"after {horizon:,} samples, {attention[horizon]:.0%}" in text
    assert f"solved {mlp[12_800]:.0%} after 12,800" in text
    assert round(attention[horizon], 1) == 0.5
    nothing = f"with two layers solves nothing in {max(on_6x6):,} samples"
    says(section_of("mini_layers"), f"{nothing}, and on 4x4 half of val after {horizon:,}")
    assert f"seed {seed}" in text and seed not in space["seeds"]
