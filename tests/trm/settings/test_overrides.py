from __future__ import annotations

from pathlib import Path

import pytest

from trm.config import TrialConfig
from trm.settings.overrides import OverrideError, absolute_paths, override


def test_sets_nested_keys_and_leaves_the_original() -> None:
    base = {"optim": {"lr": 1.0}}
    result = override(base, [("optim.lr", 2.0), ("train.batch_size", 8)], TrialConfig)
    assert result == {"optim": {"lr": 2.0}, "train": {"batch_size": 8}}
    assert base == {"optim": {"lr": 1.0}}


def test_a_new_tag_drops_what_only_the_old_kind_has() -> None:
    base = {"model": {"mixer": {"kind": "attention", "num_heads": 4}}}
    values = [("model.mixer.d_state", 16), ("model.mixer.kind", "mamba2")]
    for order in (values, values[::-1]):
        result = override(base, order, TrialConfig)
        assert result == {"model": {"mixer": {"kind": "mamba2", "d_state": 16}}}


def test_the_same_tag_drops_nothing() -> None:
    base = {"model": {"mixer": {"kind": "attention", "num_heads": 4}}}
    assert override(base, [("model.mixer.kind", "attention")], TrialConfig) == base


def test_a_new_task_drops_what_only_the_old_one_has() -> None:
    base = {"data": {"task": "sudoku", "source": "csv", "train": "a.csv"}}
    result = override(base, [("data.task", "maze")], TrialConfig)
    assert result == {"data": {"task": "maze", "source": "csv", "train": "a.csv"}}


def test_a_choice_that_two_kinds_have_is_no_tag() -> None:
    base = {"model": {"mixer": {"kind": "mamba", "dt_rank": 4}}}
    result = override(base, [("model.mixer.direction", "forward")], TrialConfig)
    assert result == {"model": {"mixer": {"kind": "mamba", "dt_rank": 4, "direction": "forward"}}}


def test_an_unknown_tag_is_left_for_validation() -> None:
    base = {"model": {"mixer": {"kind": "attention", "num_heads": 4}}}
    result = override(base, [("model.mixer.kind", "atention")], TrialConfig)
    assert result == {"model": {"mixer": {"kind": "atention", "num_heads": 4}}}


def test_a_path_through_a_value_is_refused() -> None:
    with pytest.raises(OverrideError, match=r"optim\.lr\.x: lr is 1\.0"):
        override({"optim": {"lr": 1.0}}, [("optim.lr.x", 2)], TrialConfig)


def test_relative_file_names_are_taken_from_the_folder() -> None:
    data = {"task": "sudoku", "source": "csv", "train": "a/train.csv", "test": "/b/test.csv"}
    result = absolute_paths({"data": data, "misspelt": "a"}, TrialConfig, Path("/folder"))
    assert result["data"] == data | {"train": "/folder/a/train.csv"}
    assert result["misspelt"] == "a"


def hybrid(*mixers: object) -> dict[str, object]:
    return {"model": {"mixer": {"kind": "sublayers", "mixers": list(mixers)}}}


def test_a_number_in_a_path_is_a_place_in_a_list() -> None:
    base = hybrid("mamba2", {"kind": "attention", "num_heads": 4})
    values = [("model.mixer.mixers.0.d_state", 16), ("model.mixer.mixers.1.num_heads", 2)]
    assert override(base, values, TrialConfig) == hybrid(
        {"kind": "mamba2", "d_state": 16}, {"kind": "attention", "num_heads": 2}
    )
    assert (
        override(base, [("model.mixer.mixers.0", "mlp")], TrialConfig)["model"]["mixer"]["mixers"][0] == "mlp"
    )
    assert base == hybrid("mamba2", {"kind": "attention", "num_heads": 4})


def test_a_tag_in_a_list_drops_what_only_the_old_kind_has() -> None:
    base = hybrid({"kind": "attention", "num_heads": 4})
    values = [("model.mixer.mixers.0.d_conv", 1), ("model.mixer.mixers.0.kind", "mamba")]
    for order in (values, values[::-1]):
        assert override(base, order, TrialConfig) == hybrid({"kind": "mamba", "d_conv": 1})


@pytest.mark.parametrize("place", ["2", "first", "-1"])
def test_a_place_that_a_list_does_not_have_is_refused(place: str) -> None:
    with pytest.raises(OverrideError, match=rf"{place} is not an index of a list of 2: give 0 to 1, or set"):
        override(hybrid("mamba2", "mlp"), [(f"model.mixer.mixers.{place}.d_state", 2)], TrialConfig)


def test_another_kind_drops_the_list_of_a_hybrid() -> None:
    result = override(hybrid("mamba2", "mlp"), [("model.mixer.kind", "mlp")], TrialConfig)
    assert result == {"model": {"mixer": {"kind": "mlp"}}}


def test_a_mapping_is_set_before_what_is_in_it() -> None:
    """Or the mapping would undo a tag, which is set before other keys."""
    base = {"model": {"mixer": {"kind": "attention"}}}
    values = [("model.mixer.mixers.1.kind", "mamba"), ("model", hybrid("mlp", "mlp")["model"])]
    for order in (values, values[::-1]):
        assert override(base, order, TrialConfig) == hybrid("mlp", {"kind": "mamba"})
