"""What is read beyond one number, against a direct count and against scikit-learn."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trm.test_evaluate import CONFIG, batched, evaluate, random_split
from trm.config import TrialConfig
from trm.data.base import Split
from trm.evaluate import (
    ECE_BINS,
    RowResults,
    auroc,
    calibration_error,
    curve_steps,
    depth_metric_units,
    depth_metrics,
    fixed_subset,
    rating_buckets,
    run_rows,
    run_test_rows,
    solved_then_lost,
)
from trm.model import TRM, build_model


def configured(**settings: Any) -> TrialConfig:
    return CONFIG.model_copy(update={"eval": CONFIG.eval.model_copy(update=settings)})


@pytest.fixture(scope="module")
def model() -> TRM:
    return build_model(CONFIG, 0, "cpu")


def answered(model: TRM, n: int, at: int) -> Split:
    """Puzzles whose labels are what the model says after `at` steps."""
    split = random_split(n)
    model.eval()
    with torch.no_grad():
        carry = model.initial_carry(n, "cpu")
        for _ in range(at):
            carry, output = model(carry, split.inputs, split.labels)
            carry.halted[:] = False
    return split._replace(labels=output.logits.argmax(-1).to(torch.uint8))


@pytest.mark.parametrize(
    ("halt_max_steps", "depth_steps", "steps"),
    [
        (16, 128, [1, 2, 4, 8, 16, 32, 64, 128]),
        (3, 8, [1, 2, 3, 4, 8]),
        (16, 0, [16]),
        (16, 4, [1, 2, 4, 16]),
        (8, 100, [1, 2, 4, 8, 16, 32, 64, 100]),
        (1, 1, [1]),
    ],
)
def test_steps_of_the_curve(halt_max_steps: int, depth_steps: int, steps: list[int]) -> None:
    assert curve_steps(halt_max_steps, depth_steps) == steps


def test_rating_buckets() -> None:
    found = rating_buckets((0, 1, 10, 110))
    assert list(found) == ["0", "1_9", "10_109", "110_up"]
    assert all(low < high for low, high in found.values())
    assert [low for low, _ in found.values()][1:] == [high for _, high in found.values()][:-1]


def test_names_suit_mlflow_and_differ() -> None:
    from sweeps.space.names import RESERVED, name_problem

    names = depth_metric_units(configured(depth_steps=8))
    assert not any(name_problem(name, RESERVED) for name in names)


def test_the_reading_at_halt_max_steps_is_the_evaluations(model: TRM) -> None:
    split = answered(model, 12, at=3)
    split.labels[:5] = random_split(12, seed=1).labels[:5]
    expected = evaluate(model, split, 5)
    for batch_size in (5, 12, 100):
        reading = run_rows(model, split, batched(batch_size), 8)
        assert reading.solved.shape == (12, 8)
        assert reading.solved[:, 2].double().mean() == pytest.approx(expected["exact_accuracy"])
        right = (reading.q_halt_logits >= 0) == reading.solved[:, 2]
        assert right.double().mean() == pytest.approx(expected["q_halt_accuracy"])
    assert 7 / 12 <= expected["exact_accuracy"] < 1


@pytest.mark.parametrize("at", [1, 2, 5])
def test_steps_are_counted_from_one_and_go_on_past_the_last_of_training(model: TRM, at: int) -> None:
    """Also past halt_max_steps, where a row that halts would be given its puzzle anew."""
    reading = run_rows(model, answered(model, 6, at), batched(4), 5)
    assert reading.solved[:, at - 1].all()
    assert not reading.solved.all()


def test_training_mode_is_restored(model: TRM) -> None:
    for mode in (True, False):
        model.train(mode)
        run_rows(model, random_split(3), batched(2), 4)
        assert model.training is mode


def test_cells_without_a_label_do_not_count_and_rows_of_none_are_not_solved(model: TRM) -> None:
    split = answered(model, 3, at=2)
    split.labels[0, :5] = 0
    split.labels[1] = 0
    split.labels[2, 3] = 1 + split.labels[2, 3] % 5
    assert run_rows(model, split, batched(3), 3).solved[:, 1].tolist() == [True, False, False]


def test_figures_of_rows_counted_by_hand() -> None:
    config = configured(depth_steps=4)  # halt_max_steps is 3
    solved = torch.tensor(
        [[0, 0, 1, 1], [0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool
    )
    q_halt_logits, ratings = torch.tensor([2.0, 1.0, -1.0, 1.0, -9.0]), torch.tensor([0, 3, 9, 10, -1])
    reading = RowResults(solved, torch.ones(5, 4), torch.zeros(5), q_halt_logits, ratings)
    found = depth_metrics(config, reading, reading.at(torch.arange(1, 5)))
    assert [found[f"test/exact_accuracy_at_{t}"] for t in (1, 2, 3, 4)] == [0.5, 0.5, 0.25, 0.25]
    assert found["test/chosen_exact_accuracy"] == 0.4
    assert found["test/chosen_exact_accuracy_low"] < 0.4 < found["test/chosen_exact_accuracy_high"]
    assert found["test/solved_then_lost"] == 0.4  # the third row and the fourth
    assert found["test/solved_then_lost_at_4"] == 0.5  # the second and the third, of four
    rated = {bucket: found.get(f"test/exact_accuracy_rating_{bucket}") for bucket in ("0", "1_9", "10_29")}
    assert rated == {"0": 1.0, "1_9": 0.5, "10_29": 0.0}
    rows = [found[f"test/rows_rating_{bucket}"] for bucket in ("0", "1_9", "10_29", "30_99", "100_up")]
    assert rows == [1, 2, 1, 0, 0]  # the row of unknown rating is in none
    assert found["test/q_auroc"] == (3 + 2.5) / 6
    missing = {"test/exact_accuracy_rating_30_99", "test/exact_accuracy_rating_100_up"}
    assert set(depth_metric_units(config)) - set(found) == missing
    assert set(found) <= set(depth_metric_units(config))


@pytest.mark.parametrize("all_solved", [True, False])
def test_nothing_that_is_not_a_number_is_reported(all_solved: bool) -> None:
    """It would end the trial as diverged."""
    solved = torch.full((6, 3), all_solved)
    reading = RowResults(solved, torch.ones(6, 3), torch.zeros(6), torch.zeros(6), torch.full((6,), -1))
    found = depth_metrics(configured(depth_steps=0), reading, reading)
    assert all(math.isfinite(value) for value in found.values())
    assert "test/q_auroc" not in found and found["test/q_ece"] == 0.5


def test_a_halting_head_that_is_not_trained_is_not_judged() -> None:
    config = CONFIG.model_copy(update={"model": CONFIG.model.model_copy(update={"act": "none"})})
    solved = torch.tensor([[True] * 3, [False] * 3])
    reading = RowResults(
        solved, torch.ones(2, 3), torch.zeros(2), torch.zeros(2), torch.zeros(2, dtype=torch.int32)
    )
    found = depth_metrics(config, reading, reading._replace(solved=solved.repeat(1, 43)))
    for names in (found, depth_metric_units(config)):
        assert "test/solved_then_lost" in names and not any("q_" in name for name in names)


@pytest.mark.parametrize("depth_steps", [0, 2, 8])
def test_a_few_rows_go_deep_and_all_to_the_end_of_training(model: TRM, depth_steps: int) -> None:
    split = answered(model, 40, at=3)
    changed = torch.arange(40) % 3 > 0
    split.labels[changed] = random_split(40, seed=1).labels[changed]
    configs = [configured(depth_steps=depth_steps, depth_rows=n) for n in (9, 99)]
    few, most = (depth_metrics(config, *run_test_rows(model, config, split)) for config in configs)
    of_the_curve = {name for name in few if "_at_" in name}
    assert {name: few[name] for name in few.keys() - of_the_curve} == pytest.approx(
        {name: most[name] for name in most.keys() - of_the_curve}
    )
    assert most["test/exact_accuracy_at_3"] == most["test/chosen_exact_accuracy"] == 14 / 40
    subset = fixed_subset(split, 9)
    solved = run_rows(model, subset, CONFIG).solved[:, 2].double().mean()
    assert few["test/exact_accuracy_at_3"] == solved != 14 / 40
    assert sum(value for name, value in few.items() if "rows_rating" in name) == 40


scored = st.lists(
    st.tuples(st.sampled_from([-30.0, -1.5, -0.1, 0.0, 0.4, 2.0, 40.0]) | st.floats(-20, 20, width=32),
              st.booleans()),
    min_size=2, max_size=60,
)  # fmt: skip


@settings(deadline=None)  # the first example imports scikit-learn
@given(scored)
def test_auroc_is_scikit_learns(rows: list[tuple[float, bool]]) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    scores, is_right = (torch.tensor(column) for column in zip(*rows, strict=True))
    if is_right.all() or not is_right.any():
        return
    assert auroc(scores, is_right) == pytest.approx(metrics.roc_auc_score(is_right, scores), abs=1e-12)


@given(scored)
def test_calibration_error_is_a_direct_count(rows: list[tuple[float, bool]]) -> None:
    logits, is_right = (torch.tensor(column) for column in zip(*rows, strict=True))
    by_bin: dict[int, list[tuple[float, bool]]] = {}
    for logit, right in zip(logits.double().tolist(), is_right.tolist(), strict=True):
        probability = 1 / (1 + math.exp(-logit))
        by_bin.setdefault(min(int(probability * ECE_BINS), ECE_BINS - 1), []).append((probability, right))
    expected = 0.0
    for members in by_bin.values():
        confidence, accuracy = (sum(column) / len(members) for column in zip(*members, strict=True))
        expected += len(members) / len(logits) * abs(accuracy - confidence)
    assert calibration_error(logits, is_right) == pytest.approx(expected, abs=1e-9)


def test_a_calibrated_head_has_no_error_and_one_that_knows_nothing_half_the_area() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50_000, generator=generator)
    is_right = torch.rand(50_000, generator=generator) < logits.sigmoid()
    assert calibration_error(logits, is_right) < 0.01
    assert calibration_error(5 + logits, is_right) > 0.4
    assert auroc(torch.randn(50_000, generator=generator), is_right) == pytest.approx(0.5, abs=0.01)


def test_solved_then_lost_is_a_share_of_all_rows() -> None:
    solved = torch.tensor([[1, 1], [1, 0], [0, 1], [0, 0]], dtype=torch.bool)
    assert solved_then_lost(solved) == 0.25
    assert solved_then_lost(solved[:, :1]) == 0
