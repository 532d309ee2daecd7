"""`match.train_flops`: arms of unequal FLOPs a sample train with the same FLOPs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from sweeps.observe.cost import trial_cost
from sweeps.observe.preview import preview
from sweeps.plan.build import load_plan
from sweeps.plan.extension import refusals
from sweeps.plan.identity import differences, resolved
from sweeps.plan.model import Plan
from sweeps.plan.train_flops import TrainFlops
from sweeps.plan.trainer import Trainer
from sweeps.space.errors import SpecError
from tests.conftest import ROOT
from tests.sweeps.spaces import check_refused, toy_plan, write_space
from tests.trm.test_trainer import FakeTrial, make_config
from trm.config import TrialConfig
from trm.trainer import describe, train

BASE = ROOT / "search_spaces" / "base" / "trm_sudoku.yaml"
CYCLES = {"model.h_cycles": [3, 1, 6]}
BY = "train.max_samples"
BASELINE = {"train_flops": "baseline", "by": BY}
STOPS = {"kind": "median", "metric": "val/cell_accuracy", "time_attr": "flops", "grace_period": 2e17}
TUNE = {"optim.lr": {"loguniform": [1e-4, 1e-3]}}
FIFO = {"kind": "fifo", "max_t": 5_000_000}
BASE_FLOPS = 2.38e18  # of the published recipe: 50,000,000 samples


def trm_space(folder: Path, match: dict[str, Any] | None = BASELINE, **changes: Any) -> Path:
    space = {"base": str(BASE), "ablate": CYCLES, "match": match, **changes}
    path = folder / "space.yaml"
    path.write_text(yaml.safe_dump(space, sort_keys=False))
    return path


def trm_plan(folder: Path, match: dict[str, Any] | None = BASELINE, **changes: Any) -> Plan:
    return load_plan(trm_space(folder, match, **changes))


def samples_of(plan: Plan) -> list[int]:
    return [arm.config["train"]["max_samples"] for arm in plan.arms]


def test_every_arm_trains_with_the_flops_of_the_baseline(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path)
    assert plan.train_flops == pytest.approx(BASE_FLOPS, rel=0.01)
    assert samples_of(plan)[0] == 50_000_000  # its own, though no multiple of the batch
    for arm, samples in zip(plan.arms, samples_of(plan), strict=True):
        assert arm.match is not None and arm.match.matched and arm.match.value == samples == arm.horizon
        assert 0 <= arm.match.off < 1e-4 and arm.match.size == pytest.approx(plan.train_flops, rel=1e-4)
        steps = TrialConfig.model_validate(arm.config).train.max_steps
        assert arm.match.size == steps * 768 * (arm.flops_per_sample or 0)
        assert samples == 50_000_000 or samples % 768 == 0
        assert trial_cost(arm, {}).samples == samples
    assert plan.horizon is None and len(set(samples_of(plan))) == 3


@pytest.mark.parametrize("total", [1e18, 1e18 + 1e13])
def test_the_flops_can_be_a_number(tmp_path: Path, total: float) -> None:
    plan = trm_plan(tmp_path, {"train_flops": total, "by": BY})
    assert plan.train_flops == total
    assert all(total <= (arm.match.size if arm.match else 0) < total * 1.0002 for arm in plan.arms)


def test_the_flops_are_those_of_the_first_arm_at_max_t_or_as_set(tmp_path: Path) -> None:
    short = trm_plan(tmp_path, scheduler=FIFO)
    assert samples_of(short)[0] == 5_000_000 and samples_of(short)[2] < 5_000_000 < samples_of(short)[1]
    longer = load_plan(trm_space(tmp_path), [f"{BY}=76800000"])
    assert samples_of(longer)[0] == 76_800_000
    assert samples_of(longer)[1] == pytest.approx(1.5 * samples_of(trm_plan(tmp_path))[1], rel=0.03)


def test_the_preview_and_the_sweeps_file_tell_samples_and_flops(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path)
    text = preview(plan, dict.fromkeys([arm.name for arm in plan.arms], 1), "here")
    rows = {row.split()[0]: row.split() for row in text.splitlines() if row.startswith("h_cycles=")}
    for arm, samples in zip(plan.arms, samples_of(plan), strict=True):
        assert {f"{samples:,}", "2.382e+18", "+0.00%"} <= set(rows[arm.name])
    assert f"Matched by {BY}: the baseline's training FLOPs, within 2.00%" in text
    least, most = min(samples_of(plan)), max(samples_of(plan))
    assert f"A whole trial: 2.382e+18 training FLOPs, {least:,} to {most:,} samples by arm" in text
    assert f"at most {5 * sum(samples_of(plan)):,} samples, 3.6e+19 FLOPs" in text  # five seeds of each arm
    assert "the number of samples (up to 2.7x) too: compare over samples as well as over FLOPs" in text

    content = resolved(plan)
    assert content["match"] == BASELINE | {"tolerance": 0.02, "on_unmatched": "error"}
    for arm in plan.arms:
        told = content["resolved"]["arms"][arm.name]
        assert told["horizon"] == told["match"]["value"] == arm.horizon
        assert told["match"]["size"] == pytest.approx(plan.train_flops, rel=1e-4)


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scheduler": FIFO},
        {"tune": TUNE, "scheduler": STOPS},
        {"match": {"train_flops": 1e18, "by": BY}, "tune": TUNE, "scheduler": STOPS},
    ],
)
def test_a_space_that_was_resolved_resolves_to_the_same_again(tmp_path: Path, more: dict[str, Any]) -> None:
    plan = load_plan(trm_space(tmp_path, **more))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(resolved(plan)))
    again = load_plan(tmp_path / "again.yaml")
    assert again.hash == plan.hash and samples_of(again) == samples_of(plan)


def test_stopping_is_at_flops_up_to_the_common_end(tmp_path: Path) -> None:
    plan = trm_plan(tmp_path, tune=TUNE, scheduler=STOPS)
    assert plan.spec.scheduler.max_t == plan.train_flops == plan.length
    assert len(plan.spec.scheduler.build().rungs()) == 11
    given = trm_plan(tmp_path, tune=TUNE, scheduler=STOPS | {"max_t": plan.train_flops})
    assert given.hash == plan.hash


def test_schedules_and_reports_follow_each_arms_own_length(tmp_path: Path) -> None:
    base = {"optim": {"lr_warmup_steps": 0.1, "lr_min_ratio": 0.1}}
    plan = trm_plan(tmp_path, base=base)
    for arm in plan.arms:
        config = TrialConfig.model_validate(arm.config)
        assert config.warmup_steps == round(0.1 * config.train.max_steps)
        assert math.ceil(config.train.max_steps / config.eval_every_steps) == 20
        flops_at_report = config.eval_every_steps * 768 * (arm.flops_per_sample or 0)
        assert plan.train_flops is not None and flops_at_report >= plan.train_flops / 20


def test_two_arms_end_at_the_same_flops_and_rate(tmp_path: Path) -> None:
    """Real trials of the planned configs, on 4x4 puzzles."""
    changes = {"train": {"max_samples": 16 * 40}, "eval": {"every_samples": 16 * 1000}}  # one report
    base = make_config(**changes).model_dump(mode="json")
    match = BASELINE | {"tolerance": 0.05}
    plan = trm_plan(tmp_path, match, base=base, ablate={"model.h_cycles": [1, 3]})
    ends = []
    for arm in plan.arms:
        trial = FakeTrial(tmp_path / arm.name)
        train(TrialConfig.model_validate(arm.config), trial)
        ends += trial.rows
    assert len(ends) == 2
    assert plan.train_flops is not None
    for end in ends:
        assert 0 <= end["flops"] / plan.train_flops - 1 < 0.05
        assert end["lr"] == pytest.approx(1e-4)  # the cosine's end
    assert ends[0]["samples"] > 1.5 * ends[1]["samples"]


def test_another_length_is_another_sweep_and_other_sweeps_stay(tmp_path: Path) -> None:
    one, two, plain = (
        trm_plan(tmp_path, match)
        for match in ({"train_flops": 1e18, "by": BY}, {"train_flops": 2e18, "by": BY}, None)
    )
    assert one.identity["match"] == {"train_flops": 1e18} and "match" not in plain.identity
    assert "match.train_flops: 1e+18 before, 2e+18 now" in differences(one.identity, two.identity)
    loose = trm_plan(tmp_path, {"train_flops": 1e18, "by": BY, "tolerance": 0.1})
    assert loose.hash == one.hash


CONSTANT = {"optim": {"lr_warmup_steps": 100}, "eval": {"every_samples": 1_000_000}}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scheduler": FIFO},
        {"tune": TUNE, "scheduler": STOPS},
        {"match": {"train_flops": 1e18, "by": BY}},
    ],
)
def test_more_flops_are_an_extension_where_a_longer_run_begins_as_a_shorter_one(
    tmp_path: Path, more: dict[str, Any]
) -> None:
    longer = {"match": {"train_flops": 3e18, "by": BY}, "ablate": {"model.h_cycles": [3, 1, 6, 2]}}
    if more.get("scheduler") == FIFO:
        longer = {"scheduler": FIFO | {"max_t": 10_000_000}}
    before, after = (
        load_plan(trm_space(tmp_path, base=CONSTANT, **each)) for each in (more, {**more, **longer})
    )
    assert refusals(after, before.identity) == []
    refused = "\n".join(refusals(before, after.identity))
    assert "match.train_flops" in refused and "it can only be raised" in refused


def test_samples_do_not_become_flops_by_an_extension(tmp_path: Path) -> None:
    plain, matched = (trm_plan(tmp_path, match, base=CONSTANT) for match in (None, BASELINE))
    assert any("match.train_flops: not set before" in line for line in refusals(matched, plain.identity))


REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], list[str]]] = {
    "another-key": (
        BASELINE | {"by": "model.hidden_size"},
        {},
        ["match.by: model.hidden_size: does not set how long", f"set match.by to {BY}"],
    ),
    "with-params": (BASELINE | {"params": 5e6}, {}, ["(given params and train_flops)"]),
    "negative": (BASELINE | {"train_flops": -1}, {}, ["match.train_flops", "above 0", "(given -1)"]),
    "below-the-warm-up": (
        BASELINE | {"train_flops": 1e16},
        {},
        [
            f"match.train_flops: 1e+16 comes to {BY} = ",
            "lr_warmup_steps is 2000",
            "raise train_flops",
            "arm h",
        ],
    ),
    "less-than-a-step": (
        BASELINE | {"train_flops": 1e10},
        {"base": {"optim": {"lr_warmup_steps": 0}}},
        ["not within 2.00% of 1e+10 training FLOPs", f"at {BY} = 768", "give more training FLOPs (steps are"],
    ),
    "stops-at-samples": (
        BASELINE,
        {"tune": TUNE, "scheduler": STOPS | {"time_attr": "samples"}},
        ["scheduler.time_attr: is samples", "set time_attr to flops"],
    ),
    "rungs-in-samples": (
        BASELINE,
        {"tune": TUNE, "scheduler": STOPS | {"kind": "asha", "grace_period": 2e6}},
        ["scheduler.grace_period: is 2e+06 FLOPs, but a sample takes", "tenth of match.train_flops"],
    ),
    "another-max_t": (
        BASELINE,
        {"tune": TUNE, "scheduler": STOPS | {"max_t": 2e18}},
        ["scheduler.max_t: is 2e+18 FLOPs", "leave max_t out"],
    ),
    "samples-and-flops": (
        BASELINE | {"train_flops": 1e18},
        {"scheduler": FIFO},
        ["scheduler.max_t: is 5e+06 samples", "remove max_t, or set train_flops to baseline"],
    ),
    "factor": (
        BASELINE,
        {"ablate": {**CYCLES, BY: [1_000_000, 2_000_000]}},
        [f"match.by: {BY}: is set by the factor {BY} too"],
    ),
    "tuned": (
        BASELINE,
        {"tune": {BY: {"choice": [1_000_000]}}},
        [f"match.by: {BY}: is tuned too"],
    ),
    "tuned-flops": (
        BASELINE,
        {"tune": {"model.l_cycles": {"choice": [6, 5]}}, "search": {"algorithm": "grid"}},
        ["FLOPs a sample, but the arm is matched at", "tune nothing that changes the size"],
    ),
    "tuned-batch": (
        BASELINE,
        {
            "base": {"optim": {"lr_warmup_steps": 1}, "train": {"max_samples": 100_000}},
            "tune": {"train.batch_size": {"choice": [768, 30_000]}},
            "search": {"algorithm": "grid"},
        },
        ["training FLOPs, but the arm is matched at", "how many samples a step has"],
    ),
}


@pytest.mark.parametrize(("match", "changes", "words"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_equal_is_refused(
    tmp_path: Path, match: dict[str, Any], changes: dict[str, Any], words: list[str]
) -> None:
    check_refused(trm_space(tmp_path, match, **changes), words)


def test_samples_that_are_set_anew_in_every_arm_cannot_be_set(tmp_path: Path) -> None:
    path = trm_space(tmp_path, {"train_flops": 1e18, "by": BY})
    with pytest.raises(SpecError, match=rf"--set {BY}=5000000: changes nothing"):
        load_plan(path, [f"{BY}=5000000"])


@pytest.mark.parametrize("missing", ["flops_per_sample", "horizon_key"])
def test_a_trainer_that_does_not_say_it_is_told_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    known = {"flops_per_sample": 100, "horizon_key": "max_samples", "metrics": ["accuracy"]}
    del known[missing]
    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", lambda config: known)
    path = write_space(tmp_path, match={"train_flops": 1000, "by": "max_samples"})
    with pytest.raises(SpecError, match=rf"match.train_flops: trainer .* return {missing} from describe"):
        load_plan(path)


def test_a_trainer_whose_warm_up_is_as_long_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = {"flops_per_sample": 100, "horizon_key": "max_samples", "warmup_samples": 30}
    monkeypatch.setattr("tests.sweeps.toy_trainer.describe", lambda config: known)
    match = {"train_flops": 3000, "by": "max_samples"}
    with pytest.raises(SpecError, match=r"max_samples = 30, but the warm-up lasts 30: raise train_flops"):
        toy_plan(tmp_path, match=match)
    assert toy_plan(tmp_path, match=match | {"train_flops": 3100}).arms[0].horizon == 31


class Foreign(BaseModel):
    cost: int = 1
    samples: int = 1000


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 10**12), min_size=2, max_size=4),
    st.integers(1, 4096),
    st.integers(1, 10**8),
)
def test_no_arm_is_a_step_or_more_beyond_the_target(costs: list[int], step: int, samples: int) -> None:
    def describe(config: Foreign) -> dict[str, Any]:
        return {"flops_per_sample": config.cost, "samples_per_step": step, "horizon_key": "samples"}

    trainer = Trainer("foreign", lambda config, trial: None, Foreign, describe, lambda config: None)
    search = TrainFlops("samples", trainer)
    target = search.size({"cost": costs[0], "samples": samples})
    assert search.nearest({"cost": costs[0], "samples": samples}, target) == (samples, target)
    for cost in costs:
        value, size = search.nearest({"cost": cost, "samples": samples}, target)
        assert value == samples or value % step == 0
        rounding = 1e-12 * target  # of numbers above 2**53
        assert size >= target - rounding and size - target <= cost * step + rounding


def test_describe_tells_how_many_samples_a_step_has() -> None:
    assert describe(make_config())["samples_per_step"] == 16
