"""What a dry run shows."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import run_sweep
from sweeps.decide.judge import Judge
from sweeps.dry_run import _gpu_memory
from sweeps.observe.preview import can_stop, first_reports, preview, warnings
from sweeps.plan.build import load_plan
from sweeps.plan.model import Plan
from sweeps.plan.resources import Calibration
from sweeps.space.errors import SpecError
from sweeps.space.schema import SchedulerSpec
from tests.conftest import ROOT
from tests.sweeps import toy_trainer
from tests.sweeps.schedulers.pools import report
from tests.sweeps.spaces import ASHA, TUNE, toy_plan

NEVER = "can never stop anything"
SEARCH = {"draws_per_arm": 4, "seeds": [0], "keep": 2}


def shown(plan: Plan) -> str:
    return preview(plan, dict.fromkeys([arm.name for arm in plan.arms], 3), "because")


def told(folder: Path, **changes: Any) -> str:
    return "\n".join(warnings(toy_plan(folder, **changes)))


def test_arms_are_listed_with_parameters_and_flops() -> None:
    plan = load_plan(ROOT / "search_spaces" / "mixers.yaml")
    rows = {row.split()[0]: row.split() for row in shown(plan).splitlines() if row.strip()}
    assert rows["attention"] == ["attention", "(baseline)", "6,828,034", "1.00", "4.76e+10", "1.00", "42"]
    assert rows["mlp"] == ["mlp", "5,028,866", "0.74", "4.27e+10", "0.90", "42"]
    assert "model.mixer.kind changes parameters (up to 1.4x) and FLOPs" in shown(plan)


def test_without_tune_all_trials_are_evidence(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path))
    assert "Evidence, run to the end: 3 arms x 2 seeds = 6 trials (at most 600 samples, 6e+04 FLOPs)" in text
    assert (
        "Search" not in text
        and "A whole trial: 100 samples" in text
        and "At once: 3 (1 CPU and 0 GPU a trial; because)" in text
    )
    assert "Time: not known; --calibrate measures it" in text


def test_with_tune_the_trials_of_both_phases_and_the_rungs_are_counted(tmp_path: Path) -> None:
    text = shown(toy_plan(tmp_path, tune=TUNE, search=SEARCH, scheduler=ASHA | {"scope": "arm"}))
    assert "3 arms x 4 draws (sobol) x 1 seed = 12 trials (at most 1,200 samples" in text
    assert "Evidence, run to the end: 3 arms x best 2 draws x 2 seeds = 12 trials" in text
    assert "asha on accuracy (max) over each arm; rungs at 20, 40, 80 samples" in text
    assert NEVER not in text


def test_that_the_smoothed_choice_waits_for_all_searches_is_told(tmp_path: Path) -> None:
    told = "no evidence begins before the searches of all arms have ended"
    search = {"draws_per_arm": 12, "choose": "smoothed"}
    assert told in shown(toy_plan(tmp_path, tune=TUNE, search=search))
    assert told not in shown(toy_plan(tmp_path, tune=TUNE, search={"draws_per_arm": 12}))


def test_how_many_draws_tpe_asks_before_it_has_results_is_told(tmp_path: Path) -> None:
    search = {"algorithm": "tpe", "draws_per_arm": 30, "seeds": [0, 9]}
    text = shown(toy_plan(tmp_path, tune=TUNE, search=search))
    assert "Before any result tpe makes 10 draws an arm" in text
    assert "at most 60 trials of the search run at once" in text  # 3 arms x 10 draws x 2 seeds
    assert "Before any result" not in shown(toy_plan(tmp_path, tune=TUNE, search=SEARCH))


def test_arms_of_unequal_draws_are_counted_each_by_its_own(tmp_path: Path) -> None:
    tune = {"lr": {"uniform": [0.1, 0.4], "when": {"model.kind": ["b"]}}}
    text = shown(toy_plan(tmp_path, tune=tune, search=SEARCH))
    assert "3 arms x 1/4 draws (sobol) x 1 seed = 6 trials" in text
    assert "3 arms x best 2 draws x 2 seeds = 8 trials" in text


def test_the_levels_of_a_named_factor_are_spelt_out(tmp_path: Path) -> None:
    levels = {"low": {"lr": 0.1, "model.kind": "b"}, "high": {"lr": 0.2}}
    assert "rate = low: lr: 0.1, model.kind: b" in shown(
        toy_plan(tmp_path, ablate={"rate": {"levels": levels}})
    )


def test_what_a_foreign_trainer_does_not_say_is_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "silent.py").write_text("from tests.sweeps.toy_trainer import train")
    monkeypatch.syspath_prepend(tmp_path)
    text = shown(toy_plan(tmp_path, trainer="silent:train"))
    assert "not said" in text and "= 6 trials\n" in text and "A whole trial" not in text
    assert "silent:train is imported from outside this package" in text


def test_the_projects_own_trainer_is_not_from_outside() -> None:
    notes = "\n".join(warnings(load_plan(ROOT / "search_spaces" / "smoke.yaml")))
    assert "outside" not in notes and "exploratory" in notes


def test_one_seed_and_few_draws_of_tpe_are_pointed_out(tmp_path: Path) -> None:
    assert "one seed" in told(tmp_path, seeds=[1]) and "one seed" not in told(tmp_path)
    few = told(tmp_path, tune=TUNE, search={"algorithm": "tpe", "draws_per_arm": 8})
    many = told(tmp_path, tune=TUNE, search={"algorithm": "tpe", "draws_per_arm": 20})
    assert "8 draws" in few and "tpe" not in many


@pytest.mark.parametrize(
    ("scheduler", "changes", "never"),
    [
        (ASHA, {}, False),
        (ASHA, {"ablate": {"model.kind": ["b"]}}, True),
        (ASHA | {"scope": "arm"}, {}, True),
        (ASHA | {"scope": "arm"}, {"tune": TUNE, "search": SEARCH}, False),
        ({"kind": "median", "grace_period": 20}, {}, True),
        ({"kind": "median", "grace_period": 20}, {"ablate": {"model.kind": ["a", "b", "c", "d"]}}, False),
        ({"kind": "fixed", "grace_period": 20, "keep": 3}, {}, True),
        ({"kind": "fixed", "grace_period": 20, "keep": 2}, {}, False),
    ],
)
def test_a_scheduler_that_can_never_stop_anything_is_named(
    tmp_path: Path, scheduler: dict[str, Any], changes: dict[str, Any], never: bool
) -> None:
    notes = told(tmp_path, scheduler=scheduler, **changes)
    assert (NEVER in notes) == never and (f"scheduler {scheduler['kind']} {NEVER}" in notes) == never


SCHEDULERS = [
    {"kind": "asha"},
    {"kind": "median"},
    {"kind": "fixed", "keep": 2},
    pytest.param(
        {"kind": "asha", "reduction_factor": 1.5},
    ),
]


@pytest.mark.parametrize("given", SCHEDULERS)
def test_what_is_said_of_stopping_is_what_the_scheduler_does(given: dict[str, Any]) -> None:
    spec = SchedulerSpec.model_validate(
        {"grace_period": 20, "max_t": 100, "metric": "m", "mode": "max"} | given
    )
    for members in range(1, 6):
        judge = Judge(spec)
        for rung in judge.scheduler.rungs():
            for member in range(members):  # each worse than those before it
                report(judge, "pool", str(member), {"samples": rung, "m": -float(member)})
        assert bool(judge.stopped) == can_stop(spec, members)


def reporting(monkeypatch: pytest.MonkeyPatch, every: dict[str, int]) -> None:
    """Let the toy say how often a trial of each kind reports."""
    known = toy_trainer.describe
    monkeypatch.setattr(
        toy_trainer,
        "describe",
        lambda config: known(config) | {"samples_per_report": every.get(config.model.kind)},
    )


REPORTS = {
    "at-every-rung": (20, 20, []),
    "a-little-later": (20.2, 20, []),  # rounded up to whole steps
    "oftener-than-rungs": (10, 20, []),
    "first-rungs-before-the-first-report": (
        50,
        5,
        ["every 50 samples", "judged later: 40 at 50", "that it has reached: 5, 10 and 20;", "end", ": 80)"],
    ),
    "between": (30, 20, ["judged later: 20 at 30, 40 at 60 and 80 at 90)"]),
    "only-at-the-end": (300, 20, ["nobody", ": 20 and 40;", "at the trial's end", ": 80)"]),
}


@pytest.mark.parametrize(("every", "grace", "words"), REPORTS.values(), ids=REPORTS)
def test_rungs_without_a_report_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int, grace: int, words: list[str]
) -> None:
    reporting(monkeypatch, dict.fromkeys("abc", every))
    found = told(tmp_path, scheduler=ASHA | {"grace_period": grace}).splitlines()
    notes = [note for note in found if note.startswith("a trial reports")]
    assert len(notes) == bool(words)
    for word in words:
        assert word in notes[0]


def test_of_many_rungs_without_a_report_the_first_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporting(monkeypatch, dict.fromkeys("abc", 50))
    notes = told(tmp_path, scheduler={"kind": "median", "grace_period": 1})
    assert "that it has reached: 1, 2, 3 and 94 more; judged at the trial's end" in notes
    assert "saves nothing: 99)" in notes and "judged later" not in notes  # the rung at 50 has its report


def test_which_arms_report_at_other_times_than_the_rungs_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds = {"ablate": {"model.kind": ["a", "b", "c", "d"]}, "scheduler": ASHA}
    reporting(monkeypatch, {"a": 20, "b": 30, "c": 30})  # how often d reports is not said
    assert "b and c: a trial reports every 30 samples" in told(tmp_path, **kinds)
    assert told(tmp_path, **kinds).count("a trial reports") == 1
    monkeypatch.undo()
    reporting(monkeypatch, {"a": 30, "b": 31, "c": 32, "d": 33})
    assert told(tmp_path, **kinds).count("a trial reports") == 3 and "\nd: the like" in told(
        tmp_path, **kinds
    )


def test_what_the_trainer_notes_of_a_config_is_told_with_its_arms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes = {"a": ["all", "one"], "b": ["all"], "c": ["all", "two"]}
    known = toy_trainer.describe
    noting = lambda config: known(config) | {"notes": notes[config.model.kind]}  # noqa: E731
    monkeypatch.setattr(toy_trainer, "describe", noting)
    assert warnings(toy_plan(tmp_path))[-3:] == ["all", "a: one", "c: two"]
    assert "Note: a: one" in shown(toy_plan(tmp_path))


def test_the_notes_of_trms_configs_are_in_the_preview() -> None:
    notes = "\n".join(warnings(load_plan(ROOT / "search_spaces" / "mini_frontier.yaml")))
    assert "\nhybrid: gated_deltanet beside mamba3" in notes and "alternating" not in notes
    one_way = load_plan(ROOT / "search_spaces" / "mixers.yaml", ["model.num_layers=1"])
    assert "with direction alternating every second scan" in "\n".join(warnings(one_way))


def test_rungs_in_flops_have_their_reports_in_flops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reporting(monkeypatch, dict.fromkeys("abc", 30))  # 100 FLOPs a sample
    in_flops = ASHA | {"time_attr": "flops", "grace_period": 2000, "max_t": 10_000}
    monkeypatch.setattr("sweeps.plan.build.check_metrics", lambda *_: None)  # the toy reports no FLOPs
    assert "every 3000 flops, and not at every rung (judged later: 2000 at 3000" in told(
        tmp_path, scheduler=in_flops
    )


@pytest.mark.parametrize("given", SCHEDULERS)
@pytest.mark.parametrize("interval", [7, 20, 30, 55, 200])
def test_where_a_rung_is_said_to_be_judged_the_judge_judges(given: dict[str, Any], interval: int) -> None:
    spec = SchedulerSpec.model_validate(
        {"grace_period": 8, "max_t": 100, "metric": "m", "mode": "max"} | given
    )
    judge, judged = Judge(spec), {}
    for samples in (*range(interval, 100, interval), 100):
        for arrival in judge.reported("pool", "x", ["x"], "x", {"samples": samples, "m": 0.0}):
            judged[samples] = arrival.rung
    found = first_reports(judge.rungs, interval, 100)
    assert {samples: rungs[-1] for samples, rungs in found.items()} == judged
    assert [rung for rungs in found.values() for rung in rungs] == judge.rungs


def test_trm_says_when_it_reports() -> None:
    for every in (3200, 3201):  # batches of 64
        plan = load_plan(ROOT / "search_spaces" / "smoke.yaml", [f"eval.every_samples={every}"])
        assert {arm.samples_per_report for arm in plan.arms} == {math.ceil(every / 64) * 64}


def cpu_seconds_of(cwd: Path, *arguments: str) -> tuple[float, str]:
    """What a Python process takes, and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def test_a_dry_run_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    # In units of what its libraries take to be imported, at the same time: a busy machine slows down both.
    imports, _ = cpu_seconds_of(tmp_path, "-c", "import torch, pandas")
    smoke = ROOT / "search_spaces" / "smoke.yaml"
    dry_run, printed = cpu_seconds_of(tmp_path, str(ROOT / "run_sweep.py"), str(smoke), "--dry-run")
    assert "4 arms x 2 seeds = 8 trials" in printed
    assert list(tmp_path.iterdir()) == []
    assert dry_run < 2.5 * imports


def test_measured_times_are_added_up_for_each_phase(tmp_path: Path) -> None:
    plan = toy_plan(tmp_path, tune=TUNE, search=SEARCH, resources={"cpu": 1, "gpu": 0.5})
    costs = {"a": Calibration(36.0), "b": Calibration(36.0), "c": Calibration(72.0)}  # an hour, an hour, two
    two = {"a": 2, "b": 2, "c": 2}
    text = preview(plan, two, "here", costs)
    assert "Time of the search: about 8 h 0 min, 8 GPU-hours" in text  # 4 x (1 + 1 + 2) h, two at once
    assert "Time of the evidence: about 8 h 0 min, 8 GPU-hours" in text
    unknown = preview(plan, two, "here", costs | {"b": Calibration()})
    assert "Time: not known, as no step of b could be timed" in unknown


def test_arms_with_other_resources_are_told_apart(tmp_path: Path) -> None:
    plan = toy_plan(
        tmp_path, resources={"cpu": 1, "per_arm": [{"when": {"model.kind": "c"}, "cpu": 2, "gpu": "auto"}]}
    )
    assert "1 CPU and 0 GPU a trial of a and b, 2 CPU and auto GPU a trial of c" in shown(plan)


def test_a_budget_is_shown(tmp_path: Path) -> None:
    assert "Budget: trials 4, wall_h 1.5" in shown(toy_plan(tmp_path, budget={"wall_h": 1.5, "trials": 4}))


@pytest.mark.parametrize(
    ("concurrency_by_arm", "seeds", "hours"),
    [
        ({"a": 16, "b": 16, "c": 16}, 1, "1 h 0 min"),  # three trials of an hour, and room for more
        ({"a": 2, "b": 2, "c": 2}, 1, "2 h 0 min"),  # three in two places: the last one runs alone
        ({"a": 16, "b": 1, "c": 16}, 4, "6 h 0 min"),  # b's four take the whole machine, one after the other
    ],
)
def test_a_few_trials_do_not_fill_every_place(
    tmp_path: Path, concurrency_by_arm: dict[str, int], seeds: int, hours: str
) -> None:
    plan = toy_plan(tmp_path, seeds=list(range(seeds)), evidence={"looks": "none"})
    costs = dict.fromkeys(concurrency_by_arm, Calibration(36.0))
    assert f"Time of the sweep: about {hours}" in preview(plan, concurrency_by_arm, "here", costs)


def test_where_max_t_does_not_end_a_trial_this_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = told(tmp_path, scheduler=ASHA)
    assert "horizon_key" not in text
    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", lambda config: {"metrics": ["accuracy"]})
    plan = toy_plan(tmp_path, scheduler=ASHA)
    assert "the trainer names no horizon_key" in shown(plan)
    assert "A whole trial" not in shown(plan)


# Published, arXiv 2510.04871, Table 1: millions of parameters and depth.
TABLE_1 = {
    "trm": (5, 42),
    "act": (5, 42),
    "separate": (10, 42),
    "no_ema": (5, 42),
    "four_layers": (10, 48),
    "attention": (7, 42),
    "T2n2": (5, 12),
    "one_step_gradient": (5, 42),
    "hrm": (27, 24),
}


def test_the_rows_of_table_1_have_the_published_sizes_and_depths() -> None:
    plan = load_plan(ROOT / "search_spaces" / "trm_table1.yaml")
    found = {
        str(arm.levels["row"]): (round((arm.num_params or 0) / 1e6), arm.effective_depth) for arm in plan.arms
    }
    assert found == TABLE_1
    assert plan.baseline == "row=trm"


def test_the_rows_of_table_2_are_latents_alone() -> None:
    plan = load_plan(ROOT / "search_spaces" / "trm_table2.yaml")
    assert [str(arm.levels["latents"]) for arm in plan.arms] == ["y_and_z", "multi_scale_z", "single_z"]
    assert {(arm.num_params, arm.effective_depth) for arm in plan.arms} == {(5_028_866, 42)}


def test_mixers_on_mazes_have_the_published_sizes_and_are_shown_without_a_maze_being_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trm.data.maze.config.generate", None)
    assert run_sweep.main([str(ROOT / "search_spaces" / "maze_mixers.yaml"), "--dry-run"]) == 0
    table = capsys.readouterr().out.partition("Search, under the scheduler")[0]
    rows = {row.split()[0]: row.split() for row in table.splitlines() if row.strip()}
    assert rows["attention"][2] == "6,822,914" and rows["attention"][6] == "30"  # 7M in the paper
    assert rows["mlp"][1] == "18,795,522"  # 19M
    assert list(tmp_path.iterdir()) == []


def test_the_rows_of_table_3_are_cycles_alone_for_trm_and_for_hrm() -> None:
    plan = load_plan(ROOT / "search_spaces" / "trm_table3.yaml")
    depths: dict[str, dict[str, int | None]] = {}
    for recipe, num_params in ("trm", 5_028_866), ("hrm", 27_275_266):
        arms = [arm for arm in plan.arms if arm.levels["recipe"] == recipe]
        assert {arm.num_params for arm in arms} == {num_params}
        depths[recipe] = {str(arm.levels[f"{recipe}_cycles"]): arm.effective_depth for arm in arms}
    assert depths == {
        "trm": {"k3T3": 42, "k1T1": 6, "k2T2": 20, "k4T4": 72, "k3T6": 84, "k6T3": 78, "k6T6": 156},
        "hrm": {"k3T3": 48, "k1T1": 8, "k2T2": 24, "k4T4": 80, "k3T6": 96, "k6T3": 84, "k6T6": 168},
    }


def test_memory_and_notes_are_told_where_trials_take_a_gpu() -> None:
    plan = load_plan(ROOT / "search_spaces" / "mixers.yaml")
    names = [arm.name for arm in plan.arms]
    text = preview(plan, dict.fromkeys(names, 0), "here", memory=_gpu_memory(plan))
    attention = next(line for line in text.splitlines() if line.startswith("attention"))
    assert "about 28.6 GiB" in attention
    assert text.count("not yet run on a GPU") == 1
    assert "not yet run on a GPU" not in shown(load_plan(ROOT / "search_spaces" / "smoke.yaml"))


def test_memory_is_not_asked_of_many_arms_nor_of_those_without_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _gpu_memory(load_plan(ROOT / "search_spaces" / "smoke.yaml")) == {}
    monkeypatch.setattr("sweeps.dry_run.MOST_ESTIMATED", 3)
    assert _gpu_memory(load_plan(ROOT / "search_spaces" / "mixers.yaml")) == {}


def test_a_trainer_whose_memory_cannot_be_asked_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(config: Any) -> int:
        raise KeyError("rows")

    monkeypatch.setattr("trm.trainer.gpu_memory", failing)
    with pytest.raises(SpecError, match=r"trm.trainer:train: gpu_memory\(config\) failed \(KeyError"):
        _gpu_memory(load_plan(ROOT / "search_spaces" / "mixers.yaml"))
