import pytest
import torch

from trm.data.base import TaskShape
from trm.mixers.attention import AttentionConfig
from trm.model import TRM
from trm.model_config import ModelConfig
from trm.weights import EMA


@pytest.fixture
def model() -> TRM:
    config = ModelConfig(hidden_size=16, mixer=AttentionConfig(num_heads=2), puzzle_emb_len=2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TRM(config, TaskShape(6, 9))


def set_all(model: TRM, value: float) -> None:
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)


def test_average_starts_at_the_initial_weights(model):
    set_all(model, 1.0)
    ema = EMA(model, 0.9)
    for value in (2.0, 3.0):
        set_all(model, value)
        ema.update(model)
    with ema.swapped(model):
        expected = torch.full((6, 16), (0.9 * 1 + 0.1 * 2) * 0.9 + 0.1 * 3)
        torch.testing.assert_close(model.lm_head.weight.detach(), expected)


def test_swapped_gives_back_the_same_bits_and_storage(model):
    ema = EMA(model, 0.5)
    set_all(model, 3.0)
    before = {name: (p.data_ptr(), p.detach().clone()) for name, p in model.named_parameters()}
    shadow = {name: weight.clone() for name, weight in ema.state_dict().items()}
    with ema.swapped(model):
        assert not model.lm_head.weight.eq(3.0).any()
        assert model.puzzle_emb.weights.eq(3.0).all()  # evaluated raw, as in the reference
    for name, p in model.named_parameters():
        assert p.data_ptr() == before[name][0] and torch.equal(p.detach(), before[name][1])
    assert all(torch.equal(weight, shadow[name]) for name, weight in ema.state_dict().items())


def test_weights_come_back_after_an_error(model):
    ema = EMA(model, 0.5)
    set_all(model, 3.0)
    with pytest.raises(RuntimeError), ema.swapped(model):
        raise RuntimeError
    assert model.lm_head.weight.eq(3.0).all()


def test_decay_0_is_no_average(model):
    ema = EMA(model, 0.0)
    set_all(model, 3.0)
    ema.update(model)
    with ema.swapped(model):
        assert model.lm_head.weight.eq(3.0).all()
    assert ema.state_dict() == {}


def test_state_goes_round_and_another_networks_is_refused(model):
    ema = EMA(model, 0.9)
    set_all(model, 2.0)
    ema.update(model)
    copy = EMA(model, 0.9)
    copy.load_state_dict(ema.state_dict())
    assert all(torch.equal(copy.shadow[name], weight) for name, weight in ema.shadow.items())
    with pytest.raises(ValueError, match="of another network"):
        EMA(model, 0.0).load_state_dict(ema.state_dict())
