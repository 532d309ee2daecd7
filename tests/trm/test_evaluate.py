from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest

from trm.config import TrialConfig
from trm.data.base import Split
from trm.evaluate import accuracies, fixed_rows, fixed_subset, run_rows, wilson_interval
from trm.model import TRM, build_model

CONFIG = TrialConfig.model_validate(
    {
        "model": {
            "hidden_size": 16, "h_cycles": 2, "l_cycles": 1, "halt_max_steps": 3,
            "puzzle_emb_len": 1, "mixer": {"kind": "mlp"},
        },
        "data": {"task": "sudoku", "source": "embedded", "size": 4},
        "optim": {"lr_warmup_steps": 0},
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def model() -> TRM:
    return build_model(CONFIG, 0, "cpu")


def random_split(n: int, seed: int = 0) -> Split:
    generator = torch.Generator().manual_seed(seed)
    inputs, labels = (
        torch.randint(low, 6, (n, 16), generator=generator, dtype=torch.uint8) for low in (1, 2)
    )
    return Split(inputs, labels, torch.arange(n, dtype=torch.int32))


def batched(batch_size: int) -> TrialConfig:
    return CONFIG.model_copy(update={"eval": CONFIG.eval.model_copy(update={"batch_size": batch_size})})


def evaluate(model: TRM, split: Split, batch_size: int, padded_to: int | None = None) -> dict[str, float]:
    return accuracies(CONFIG, run_rows(model, split, batched(batch_size), padded_to=padded_to))


@pytest.mark.parametrize(("accuracy", "n"), [(0.0, 5), (1.0, 200), (0.5, 2048), (3 / 7, 7)])
def test_wilson_interval_is_scipys(accuracy: float, n: int) -> None:
    expected = binomtest(round(accuracy * n), n).proportion_ci(0.95, method="wilson")
    assert wilson_interval(accuracy, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_fixed_subset() -> None:
    split = random_split(100)
    subset = fixed_subset(split, 10)
    assert [len(column) for column in subset] == [10, 10, 10]
    assert torch.equal(subset.inputs, split.inputs[subset.ratings.long()])
    assert all(torch.equal(a, b) for a, b in zip(subset, fixed_subset(split, 10), strict=True))
    assert len(set(subset.ratings.tolist())) == 10
    assert fixed_subset(split, 100) is split
    assert torch.equal(subset.ratings.long(), fixed_rows(100, 10))
    assert torch.equal(fixed_rows(7, 10), torch.arange(7))


def test_batch_size_changes_nothing(model: TRM) -> None:
    split = random_split(23)
    whole = evaluate(model, split, 23)
    for batch_size in (1, 5, 8, 100):
        assert evaluate(model, split, batch_size) == pytest.approx(whole, abs=1e-6)
        assert evaluate(model, split, 1, padded_to=batch_size) == pytest.approx(whole, abs=1e-6)


def test_figures_equal_a_direct_count(model: TRM) -> None:
    split = random_split(12)
    model.eval()
    with torch.no_grad():
        carry = model.initial_carry(12, "cpu")
        for _ in range(3):
            carry, output = model(carry, split.inputs, split.labels)
    guess = output.logits.argmax(-1)
    # Half of the rows get their own answer as the label: right by construction.
    labels = torch.where(torch.arange(12)[:, None] < 6, guess, 2 + (guess - 1) % 4).to(torch.uint8)
    got = evaluate(model, Split(split.inputs, labels, split.ratings), 5)
    right = (guess == labels).float()
    assert got["cell_accuracy"] == pytest.approx(right.mean().item())
    assert got["exact_accuracy"] == pytest.approx(right.all(-1).float().mean().item())
    assert got["exact_accuracy"] >= 0.5
    halts = output.q_halt_logits >= 0
    assert got["q_halt_accuracy"] == pytest.approx((halts == right.all(-1)).float().mean().item())
    assert got["exact_accuracy_low"] < got["exact_accuracy"] < got["exact_accuracy_high"]
    assert math.isfinite(got["loss"])


def test_training_mode_is_restored(model: TRM) -> None:
    for mode in (True, False):
        model.train(mode)
        evaluate(model, random_split(3), 2)
        assert model.training is mode
