import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from trm.config import LossConfig
from trm.losses import SUMS, cross_entropy, log_stablemax, supervision_loss
from trm.model import Carry, Output


def carry_of(labels, halted, steps) -> Carry:
    nothing = torch.zeros(len(labels), 1, 1)
    labels = torch.tensor(labels)
    steps = torch.tensor(steps, dtype=torch.int32)
    return Carry(nothing, nothing, steps, torch.tensor(halted), torch.zeros_like(labels), labels)


def logits_for(predictions, vocab_size: int = 4) -> torch.Tensor:
    return 10.0 * F.one_hot(torch.tensor(predictions), vocab_size).float()


def test_stablemax_by_hand():
    # s(1) = 2, s(0) = 1, s(-1) = 1/2
    expected = torch.tensor([2.0, 1.0, 0.5]).div(3.5).log()
    torch.testing.assert_close(log_stablemax(torch.tensor([1.0, 0.0, -1.0])), expected)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6))
def test_stablemax_is_a_distribution_with_finite_gradients(values):
    logits = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    log_probs = log_stablemax(logits)
    assert log_probs.exp().sum().item() == pytest.approx(1.0)
    log_probs[0].backward()
    assert torch.isfinite(logits.grad).all()


def test_stablemax_gradient_matches_finite_differences():
    logits = torch.tensor([[1.5, -0.7, 0.3, -4.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_stablemax, logits)


def test_cross_entropy_dtypes_and_softmax():
    logits = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(10).reshape(2, 5) % 7
    assert cross_entropy(logits.bfloat16(), labels, "stablemax").dtype == torch.float64
    softmax = cross_entropy(logits, labels, "softmax")
    torch.testing.assert_close(softmax, F.cross_entropy(logits.mT, labels, reduction="none"))


def test_metrics_count_the_rows_that_halt_and_have_a_label():
    carry = carry_of(
        labels=[[1, 2, 0, 3], [1, 2, 3, 3], [1, 1, 1, 1], [0, 0, -100, 0], [2, 2, 2, 2]],
        halted=[True, True, False, True, True],
        steps=[3, 5, 1, 2, 2],
    )
    predictions = [[1, 2, 1, 3], [1, 2, 1, 1], [1, 1, 1, 1], [1, 1, 1, 1], [2, 2, 2, 1]]
    q_halt_logits = torch.tensor([0.0, 1.0, 5.0, 5.0, -1.0])
    _, metrics = supervision_loss(Output(logits_for(predictions), q_halt_logits), carry, LossConfig())
    sums = dict(zip(SUMS, metrics.tolist(), strict=True))
    assert sums["count"] == 3  # row 2 goes on, row 3 has no label
    assert sums["cell_accuracy"] == pytest.approx(1 + 1 / 2 + 3 / 4)
    assert sums["exact_accuracy"] == 1
    assert sums["q_halt_accuracy"] == 2  # right at 0 and at -1; row 1 holds a wrong answer for right
    assert sums["halt_steps"] == 3 + 5 + 2
    assert not metrics.requires_grad


@pytest.mark.parametrize("kind", ["stablemax", "softmax"])
def test_loss_is_a_puzzles_mean_summed_over_the_batch_plus_q(kind):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 4, 4, generator=generator)
    labels = [[1, 2, 0, 0], [3, 3, 1, 2]]
    carry = carry_of(labels, [False, True], [1, 1])
    q_halt_logits = torch.tensor([0.3, -0.4])
    loss, metrics = supervision_loss(
        Output(logits, q_halt_logits), carry, LossConfig(kind=kind, q_weight=0.25)
    )
    cells = cross_entropy(logits, torch.tensor(labels), kind)
    lm_loss = cells[0, :2].mean() + cells[1].mean()
    q_halt_loss = F.binary_cross_entropy_with_logits(q_halt_logits, torch.zeros(2), reduction="sum")
    sums = dict(zip(SUMS, metrics.tolist(), strict=True))
    assert sums["lm_loss"] == pytest.approx(lm_loss.item())
    assert sums["q_halt_loss"] == pytest.approx(q_halt_loss.item())
    assert loss.item() == pytest.approx((lm_loss + 0.25 * q_halt_loss).item())


def test_q_target_is_this_steps_answer_for_every_row():
    carry = carry_of([[1, 2], [1, 2]], halted=[False, False], steps=[1, 1])
    q_halt_logits = torch.zeros(2, requires_grad=True)
    loss, _ = supervision_loss(
        Output(logits_for([[1, 2], [1, 3]]), q_halt_logits), carry, LossConfig(q_weight=1.0)
    )
    loss.backward()
    assert q_halt_logits.grad.tolist() == [-0.5, 0.5]  # sigmoid(0) - target


def test_labels_may_be_bytes_as_the_data_keeps_them():
    output = Output(torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(2)), torch.zeros(2))
    carry = carry_of([[1, 0, 3], [2, 2, 0]], [True, True], [1, 1])
    loss, _ = supervision_loss(output, carry, LossConfig())
    carry.labels = carry.labels.byte()
    assert supervision_loss(output, carry, LossConfig())[0] == loss
