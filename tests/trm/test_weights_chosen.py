from __future__ import annotations

import pytest
import torch

from tests.trm.test_weights_ema import model, set_all  # noqa: F401  # `model` is a fixture
from trm.model import TRM
from trm.weights import EMA, ChosenWeights


def figures(exact: float, cell: float = 0.5) -> dict[str, float]:
    return {"exact_accuracy": exact, "cell_accuracy": cell}


@pytest.mark.parametrize(
    ("reports", "step"),
    [
        ([(0.1, 0.5), (0.3, 0.5), (0.2, 0.9)], 2),  # exact accuracy first
        ([(0.0, 0.5), (0.0, 0.7), (0.0, 0.6)], 2),  # of equals the better cells
        ([(0.4, 0.5), (0.4, 0.5), (0.3, 0.5)], 2),  # of equals in both the later
        ([(0.0, 0.0)], 1),
    ],
)
def test_which_report_is_chosen(model: TRM, reports: list[tuple[float, float]], step: int) -> None:  # noqa: F811
    chosen = ChosenWeights()
    for i, report in enumerate(reports, start=1):
        set_all(model, float(i))
        chosen.offer(model, i, figures(*report))
    assert chosen.step == step
    set_all(model, 9.0)
    with chosen.swapped(model):
        assert all((p == step).all() for p in model.parameters())
    assert all((p == 9.0).all() for p in model.parameters())


def test_what_is_kept_is_what_was_evaluated(model: TRM) -> None:  # noqa: F811
    """Averaged weights, the puzzle embedding as it was then; and later steps do not reach it."""
    ema, chosen = EMA(model, 0.5), ChosenWeights()
    set_all(model, 2.0)
    ema.update(model)
    with ema.swapped(model):
        chosen.offer(model, 1, figures(0.5))
        expected = {name: p.detach().clone() for name, p in model.named_parameters()}
    set_all(model, 7.0)
    ema.update(model)
    with chosen.swapped(model):
        assert all(torch.equal(p, expected[name]) for name, p in model.named_parameters())
        assert (model.puzzle_emb.weights == 2.0).all()
    assert all(torch.equal(chosen.weights[name], weight) for name, weight in expected.items())


def test_weights_come_back_after_an_error(model: TRM) -> None:  # noqa: F811
    chosen = ChosenWeights()
    chosen.offer(model, 1, figures(0.5))
    set_all(model, 3.0)
    with pytest.raises(RuntimeError), chosen.swapped(model):
        raise RuntimeError
    assert all((p == 3.0).all() for p in model.parameters())


def test_state_goes_round(model: TRM) -> None:  # noqa: F811
    chosen, copy = ChosenWeights(), ChosenWeights()
    chosen.offer(model, 4, figures(0.5, 0.75))
    copy.load_state_dict(chosen.state_dict())
    assert (copy.step, copy.score) == (4, (0.5, 0.75))
    copy.offer(model, 5, figures(0.5, 0.7))
    assert copy.step == 4
