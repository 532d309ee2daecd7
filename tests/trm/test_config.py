"""What a config comes to: when it reports, and which settings take effect."""

from __future__ import annotations

from typing import Any

import pytest

from trm.config import TrialConfig


def config(**sections: dict[str, Any]) -> TrialConfig:
    return TrialConfig.model_validate(sections)


@pytest.mark.parametrize(("every", "batch"), [(2_500_000, 768), (6400, 64), (100, 64), (1, 64)])
def test_a_report_is_not_just_short_of_its_samples(every: int, batch: int) -> None:
    """Or a rung at `every` would be judged a whole interval late."""
    steps = config(eval={"every_samples": every}, train={"batch_size": batch}).eval_every_steps
    assert 0 <= steps * batch - every < batch


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"train": {"compile": "on"}}, {"train": {"compile": "off"}}),
        ({"eval": {"batch_size": 64}}, {"eval": {"batch_size": 128}}),
        (
            {"model": {"halt_max_steps": 1, "halt_exploration_prob": 0.1}},
            {"model": {"halt_max_steps": 1, "halt_exploration_prob": 0.5}},
        ),
        (
            {
                "model": {
                    "hidden_size": 64,
                    "mixer": {"kind": "mlp", "expansion": 1.0},
                    "pos_encodings": "rope",
                }
            },
            {
                "model": {
                    "hidden_size": 64,
                    "mixer": {"kind": "mlp", "expansion": 2.0},
                    "pos_encodings": "none",
                }
            },
        ),
        (
            {"model": {"num_layers": 1, "mixer": {"kind": "mamba2", "direction": "forward"}}},
            {"model": {"num_layers": 1, "mixer": {"kind": "mamba2", "direction": "alternating"}}},
        ),
    ],
    ids=["compile", "eval batch", "exploration of one step", "widths in 256s", "alternating over one layer"],
)
def test_settings_that_change_nothing_are_not_effective(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert config(**one) != config(**other)
    assert config(**one).effective() == config(**other).effective()


@pytest.mark.parametrize(
    "change",
    [
        {"train": {"precision": "float32"}},
        {"eval": {"val_rows": 64}},
        {"model": {"halt_exploration_prob": 0.5}},
        {"model": {"expansion": 8.0}},
        {"data": {"num_aug": 3}},
    ],
    ids=str,
)
def test_settings_that_change_something_are(change: dict[str, Any]) -> None:
    assert config(**change).effective() != config().effective()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"latents": "multi_scale", "l_cycles": 1}, {"latents": "two", "l_cycles": 1}),
        ({"gradient": "one_step", "l_cycles": 1}, {"gradient": "recursion", "l_cycles": 1}),
        ({"gradient_l_cycles": 1}, {"gradient": "one_step"}),
        ({"gradient_h_cycles": 1, "gradient_l_cycles": 6}, {}),
        ({"act": "continue", "halt_max_steps": 1}, {"act": "halt", "halt_max_steps": 1}),
        ({"act": "none", "halt_exploration_prob": 0.5, "halt_bias": 0.0}, {"act": "none"}),
    ],
)
def test_settings_without_effect_give_one_effective_config(one, other):
    first, second = (TrialConfig.model_validate({"model": model}).effective() for model in (one, other))
    assert first == second


def test_ways_of_halting_and_latents_differ_in_effect():
    changes = [{}, *({"act": act} for act in ("continue", "none")), {"latents": "single"}]
    changes += [{"latents": "multi_scale"}, {"act": "none", "halt_max_steps": 1}, {"halt_max_steps": 1}]
    effects = [TrialConfig.model_validate({"model": model}).effective() for model in changes]
    assert all(effects.count(effect) == 1 for effect in effects)


def test_a_key_that_was_added_later_is_recorded_where_it_is_set() -> None:
    """At its default it is left out, so that a sweep of an older version is the same sweep."""
    config = TrialConfig.model_validate({"train": {"batch_size": 8, "micro_batch": 4}})
    assert config.model_dump()["train"]["micro_batch"] == 4
    assert "raw_weights" not in config.model_dump()["eval"]
    assert TrialConfig.model_validate(config.model_dump(mode="json")) == config


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"gradient_h_cycles": 4}, r"gradient_h_cycles is 4, but model.h_cycles is 3: give 1 to 3"),
        ({"gradient_l_cycles": 7}, r"gradient_l_cycles is 7, but model.l_cycles is 6: give 1 to 6"),
        ({"gradient_l_cycles": 0}, r"greater than or equal to 1"),
        ({"gradient": "one_step", "gradient_h_cycles": 2}, r"'one_step', which is .*: drop one of the two"),
        (
            {"latents": "single", "gradient_h_cycles": 2, "gradient_l_cycles": 3},
            r"gradient_l_cycles 3 leaves without a gradient .*: drop gradient_l_cycles",
        ),
        ({"latents": "single", "latent_noise": 0.1}, r"latent_noise is 0.1, .*: set it to 0, or latents to"),
        ({"latents": "single", "latent_dropout": 0.1}, r"latent_dropout is 0.1, .*'single'"),
        ({"damping": 1.0}, r"less than 1"),
        ({"latent_dropout": 1.0}, r"less than 1"),
        ({"latent_noise": -0.1}, r"greater than or equal to 0"),
        ({"swiglu": "none"}, r"'plain' or 'conv'"),
    ],
    ids=str,
)
def test_what_the_recursion_cannot_do_is_refused(model: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config(model=model)


def test_muons_momentum_is_nothing_to_adamw() -> None:
    one, other = (config(optim={"momentum": momentum}) for momentum in (0.9, 0.95))
    assert one.effective() == other.effective()
    effects = [config(optim=optim).effective() for optim in ({}, {"kind": "muon"}, {"clip_norm": 1.0})]
    assert all(effects.count(effect) == 1 for effect in effects)
    with pytest.raises(ValueError, match=r"clip_norm\n.*greater than 0"):
        config(optim={"clip_norm": 0.0})


SEPARATE = {"networks": "separate", "num_layers": 2}


def test_two_networks_of_one_depth_are_those_that_name_it_twice() -> None:
    plain, named, deeper, shallower = (
        config(model=SEPARATE | depth)
        for depth in ({}, {"h_layers": 2}, {"h_layers": 4}, {"num_layers": 4, "h_layers": 2})
    )
    assert plain.effective() == named.effective()
    effects = [each.effective() for each in (plain, deeper, shallower)]
    assert all(effects.count(effect) == 1 for effect in effects)
    assert "h_layers" not in plain.model_dump()["model"] and deeper.model_dump()["model"]["h_layers"] == 4
    assert (deeper.model.depths, config().model.depths) == ((2, 4), (2,))


def test_a_shared_network_has_one_depth() -> None:
    with pytest.raises(ValueError, match=r"model.h_layers is 4, but .*'shared'.*: set networks to separate"):
        config(model={"h_layers": 4})


def test_a_pattern_comes_out_even_in_both_networks() -> None:
    pattern = {"mixer": {"kind": "pattern", "mixers": ["mamba2", "attention"]}}
    config(model=SEPARATE | {"h_layers": 4} | pattern)
    with pytest.raises(ValueError, match=r"model.h_layers, 3: set it to a multiple of 2"):
        config(model=SEPARATE | {"h_layers": 3} | pattern)
