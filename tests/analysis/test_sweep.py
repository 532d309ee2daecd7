"""Loading a folder, an MLflow experiment, and what is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from analysis.compare.ranking import claim_of, rank_arms
from analysis.figures import learning_curves
from analysis.format import NO_UNIT, PERCENT, SHARE
from analysis.report.summary import ranking_text
from analysis.sweep import AnalysisError, Sweep, load_sweep
from tests.analysis.synthetic import OBJECTIVE, RECORDED, Fake, write_sweep
from trm.config import TrialConfig
from trm.trainer import describe

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_sweep(tmp_path / "demo", {"mlp": Fake(0.9), "mamba": Fake(0.5, stop=0.25)})


def test_a_sweep_knows_its_objective_arms_and_baseline(folder: Path) -> None:
    sweep = load_sweep(folder)
    assert (sweep.name, sweep.metric, sweep.maximise) == ("demo", OBJECTIVE, True)
    assert (sweep.arms, sweep.baseline, sweep.factors) == (["mlp", "mamba"], "mlp", ["model.mixer.kind"])
    assert sweep.test_metric == "test/exact_accuracy"
    assert sweep.arm_number("mlp", "num_params") == 250_000
    assert set(sweep.decisions["action"]) == {"stop"}


def _record(folder: Path, trainer: str, unit: str, units: dict[str, str], metric: str = OBJECTIVE) -> Sweep:
    """The sweep with this trainer and these units in its sweep.yaml."""
    space = yaml.safe_load((folder / "sweep.yaml").read_text())
    space |= {"trainer": trainer, "objective": {"metric": metric, "mode": "max", "unit": unit}}
    space["resolved"]["units"] = units
    (folder / "sweep.yaml").write_text(yaml.safe_dump(space))
    return load_sweep(folder)


def test_units_are_those_that_the_sweep_recorded(folder: Path) -> None:
    sweep = _record(
        folder, "trm.trainer:train", "percent", {OBJECTIVE: "percent", "val/cell_accuracy": "none"}
    )
    assert sweep.unit(OBJECTIVE) is sweep.unit("test/exact_accuracy") is PERCENT
    assert sweep.unit("val/cell_accuracy") is sweep.unit("val/q_halt_accuracy") is NO_UNIT


def test_a_sweep_from_before_units_has_those_of_trms_metrics(folder: Path) -> None:
    sweep, config = load_sweep(folder), TrialConfig()
    known = describe(config)
    assert {name for name in known["metrics"] if sweep.unit(name) is SHARE} == set(known["units"])
    assert sweep.unit("val/accuracy") is sweep.unit("my/exact_accuracy") is NO_UNIT
    foreign = replace(sweep, space={**sweep.space, "trainer": "mine:train"})
    assert foreign.unit(OBJECTIVE) is NO_UNIT


@pytest.fixture
def of_four(tmp_path: Path) -> Path:
    """The fewest seeds whose mean has an interval."""
    arms = {"mlp": Fake(0.9), "mamba": Fake(0.5, stop=0.25)}
    return write_sweep(tmp_path / "four", arms, seeds=(0, 1, 2, 3))


def test_percentages_are_shown_as_they_are_and_cut_at_100(of_four: Path) -> None:
    folder = of_four
    for name in ("trials", "history"):
        path = folder / f"{name}.parquet"
        table = pd.read_parquet(path)
        accuracies = [column for column in table if "exact_accuracy" in column]
        assert accuracies
        table.assign(**dict.fromkeys(accuracies, 92.25)).to_parquet(path)
    sweep = _record(folder, "mine:train", "percent", {OBJECTIVE: "percent", "test/exact_accuracy": "percent"})
    assert "val exact accuracy (%)" in ranking_text(folder) and "92.2 " in ranking_text(folder)
    trials = sweep.trials.assign(**{OBJECTIVE: [99.0, 100.0] * 4}, status="completed")
    high = rank_arms(replace(sweep, trials=trials))["high"]
    assert list(high) == [100.0, 100.0]


def test_a_loss_has_no_limits(of_four: Path) -> None:
    sweep = load_sweep(of_four)
    trials = sweep.trials.assign(**{OBJECTIVE: [0.0, 1.0] * 4}, status="completed")
    space = {**sweep.space, "trainer": "mine:train"}
    ranked = rank_arms(replace(sweep, trials=trials, space=space))
    assert (ranked["low"] < 0).all() and (ranked["high"] > 1).all()


def test_below_four_seeds_the_ranking_has_the_values(folder: Path) -> None:
    ranked, text = rank_arms(load_sweep(folder)), ranking_text(folder)
    values = load_sweep(folder).trials.query("arm == 'mlp'")[OBJECTIVE]
    assert ranked["low"].isna().all()
    assert "seeds: {:.1f}, {:.1f}".format(*(100 * values)) in text and "[" not in text


def test_the_recorded_summary_is_the_ranking_of_its_trials() -> None:
    """The recording hangs together: its summary.csv is what its trials give."""
    summary, ranked = pd.read_csv(RECORDED / "summary.csv"), rank_arms(load_sweep(RECORDED))
    assert list(summary["arm"]) == list(ranked["arm"])
    assert summary["mean"].to_numpy() == pytest.approx(ranked["mean"].to_numpy(), nan_ok=True)


def test_a_foreign_trainers_blanks_become_nan(folder: Path) -> None:
    blank = ["num_params", "flops_per_sample", "flops", "wall_s", "mlflow_run_id", "samples"]
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.assign(num_params=None, samples=None).drop(columns=blank[1:5]).to_parquet(
        folder / "trials.parquet"
    )
    history = pd.read_parquet(folder / "history.parquet")
    history.drop(columns=["flops", "wall_s", "samples"]).to_parquet(folder / "history.parquet")
    space = yaml.safe_load((folder / "sweep.yaml").read_text())
    for arm in space["resolved"]["arms"].values():
        arm.update(num_params=None, flops_per_sample=None)
    (folder / "sweep.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    ranked = rank_arms(load_sweep(folder))
    assert ranked["num_params"].isna().all() and ranked["wall_s"].isna().all()
    assert ranked.loc[0, "n"] == 2


def test_an_objective_that_nobody_reported_is_nan(folder: Path) -> None:
    trials = pd.read_parquet(folder / "trials.parquet")
    trials.drop(columns=[OBJECTIVE]).to_parquet(folder / "trials.parquet")
    assert rank_arms(load_sweep(folder))["mean"].isna().all()


def test_curves_can_be_drawn_before_the_objective_is_reported(folder: Path) -> None:
    history = pd.read_parquet(folder / "history.parquet")
    history.drop(columns=[OBJECTIVE]).to_parquet(folder / "history.parquet")
    sweep = load_sweep(folder)
    assert sweep.history[OBJECTIVE].isna().all() and len(learning_curves(sweep).axes) == 1


def test_the_command_that_makes_missing_results_is_named(tmp_path: Path) -> None:
    """That of the shipped search space of this name; else of one that is quick."""
    for name, made in (("mini_cycles", "mini_cycles"), ("mine", "smoke")):
        with pytest.raises(AnalysisError, match=rf"`python run_sweep\.py {made}` makes those"):
            load_sweep(tmp_path / name)


def test_levels_stay_what_they_are(folder: Path) -> None:
    """A named factor's levels are words, whatever else is numeric."""
    space = yaml.safe_load((folder / "sweep.yaml").read_text())
    for arm in space["resolved"]["arms"].values():
        arm["levels"]["width"] = "wide"
    (folder / "sweep.yaml").write_text(yaml.safe_dump(space, sort_keys=False))
    pd.read_parquet(folder / "trials.parquet").assign(width="wide").to_parquet(folder / "trials.parquet")
    assert set(load_sweep(folder).trials["width"]) == {"wide"}


def test_analysis_needs_neither_torch_nor_ray_nor_the_rest_of_the_project() -> None:
    program = (
        "import sys, analysis.report.build\n"
        "unwanted = {'torch', 'ray', 'trm', 'sweeps', 'mlflow', 'optuna', 'matplotlib.pyplot'}\n"
        "print(unwanted & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert run.stdout.strip() == "set()"


@pytest.mark.parametrize("phase", [None, "", "Evidence", "both"])
def test_a_trial_of_no_known_phase_carries_no_claim(tmp_path: Path, phase: str | None) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}, phase="evidence")
    assert claim_of(load_sweep(folder)) == "confirmatory"
    pd.read_parquet(folder / "trials.parquet").assign(phase=phase).to_parquet(folder / "trials.parquet")
    sweep = load_sweep(folder)
    assert set(sweep.trials["phase"]) == {"search"} and claim_of(sweep) == "exploratory"
    pd.read_parquet(folder / "trials.parquet").drop(columns="phase").to_parquet(folder / "trials.parquet")
    assert claim_of(load_sweep(folder)) == "exploratory"


def test_a_torn_journal_line_is_passed_over(folder: Path) -> None:
    with (folder / "journal.jsonl").open("a") as journal:
        journal.write('{"event": "decision", "member": "ml')
    assert list(load_sweep(folder).decisions["member"]) == ["mamba-d0"]
    (folder / "journal.jsonl").unlink()
    assert load_sweep(folder).decisions.empty


def _version(folder: Path, version: object) -> None:
    space = yaml.safe_load((folder / "sweep.yaml").read_text())
    space["resolved"]["version"] = version
    (folder / "sweep.yaml").write_text(yaml.safe_dump(space))


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "is no folder"),
        (lambda folder: (folder / "sweep.yaml").unlink(), "sweep.yaml is missing"),
        (lambda folder: (folder / "sweep.yaml").write_text("a: [1"), "is not YAML"),
        (lambda folder: (folder / "sweep.yaml").write_text("name: x"), "no key `resolved`"),
        (lambda folder: (folder / "trials.parquet").unlink(), "trials.parquet is missing"),
        (lambda folder: (folder / "history.parquet").write_text("no"), "not a readable parquet"),
        (lambda folder: _version(folder, "9.1.0"), "written by version 9.1.0"),
        (lambda folder: _version(folder, "new"), "written by version new"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_message(folder: Path, break_it, message: str) -> None:
    break_it(folder)
    with pytest.raises(AnalysisError, match=message):
        load_sweep(folder)


def test_trials_without_a_needed_column_are_refused(folder: Path) -> None:
    pd.DataFrame({"trial_id": ["a"], "arm": ["a"]}).to_parquet(folder / "trials.parquet")
    with pytest.raises(AnalysisError, match="no column seed, status"):
        load_sweep(folder)
