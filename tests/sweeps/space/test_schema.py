"""What the YAML of a search space says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sweeps.space.errors import SpecError
from sweeps.space.load import load_spec
from sweeps.space.schema import SchedulerSpec, SearchSpec, SweepSpec
from sweeps.space.values import Domain, Factor, refuse_duplicates
from tests.sweeps.spaces import write_space

Numbers = st.floats(-1e6, 1e6)


def read(folder: Path, text: str, *overrides: str, name: str | None = None) -> SweepSpec:
    path = folder / "a_space.yaml"
    path.write_text(text)
    return load_spec(path, overrides, name)[0]


def test_scalars_are_read_as_people_mean_them(tmp_path: Path) -> None:
    base = read(
        tmp_path, "ablate: {x: [1e-4, off]}\nbase: {lr: 1e-4, compile: off, none: ~, on: true, n: 010}"
    )
    assert base.base == {"lr": 1e-4, "compile": "off", "none": None, "on": True, "n": 10}
    assert base.ablate["x"].values == [1e-4, "off"]


def test_what_is_left_out_has_the_documented_default(tmp_path: Path) -> None:
    spec = read(tmp_path, "ablate: {x: [1, 2]}")
    assert (spec.name, spec.trainer, spec.design) == ("a_space", "trm.trainer:train", "full")
    assert (spec.objective.metric, spec.objective.mode) == ("val/exact_accuracy", "max")
    assert (spec.seeds, spec.max_concurrent, spec.max_failures) == ([1, 2, 3, 4, 5], "auto", 1)
    assert (spec.scheduler.kind, spec.search.algorithm, spec.search.seeds) == ("fifo", "sobol", [0])


def test_the_name_is_the_launchs_else_the_spaces_else_the_files(tmp_path: Path) -> None:
    assert read(tmp_path, "ablate: {x: [1, 2]}\nname: its").name == "its"
    assert read(tmp_path, "ablate: {x: [1, 2]}\nname: its", name="mine").name == "mine"


def test_a_base_file_is_taken_from_the_folder_of_the_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "there" / "b.yaml").write_text("lr: 1e-3")
    monkeypatch.chdir(tmp_path / "elsewhere")
    spec, sources = load_spec(write_space(tmp_path, base="there/b.yaml"))
    assert spec.base == {"lr": 1e-3}
    assert (sources.space_dir, sources.base_dir) == (tmp_path, tmp_path / "there")


def test_settings_of_the_command_line_are_typed_as_in_a_file(tmp_path: Path) -> None:
    texts = ["a.lr=1e-4", "b = off ", "c=x=y", "d=[1, 2]", "e=", "f='1'"]
    changes = load_spec(write_space(tmp_path), texts)[1].changes
    expected = [("a.lr", 1e-4), ("b", "off"), ("c", "x=y"), ("d", [1, 2]), ("e", None), ("f", "1")]
    assert list(changes) == expected


def test_what_a_sweep_came_to_is_passed_over(tmp_path: Path) -> None:
    assert read(tmp_path, "ablate: {x: [1, 2]}\nresolved: {hash: abc}").ablate


def test_a_list_is_short_for_values_and_a_scalar_of_when_for_a_list() -> None:
    assert Factor.model_validate([1, 2]) == Factor(values=[1, 2])
    assert Factor(values=[1], when={"x": "a"}) == Factor(values=[1], when={"x": ["a"]})


@given(Numbers, Numbers, st.sampled_from(["uniform", "loguniform"]))
def test_a_domain_goes_from_low_to_high(low: float, high: float, kind: str) -> None:
    makes_sense = low < high and (kind == "uniform" or low > 0)
    if makes_sense:
        assert Domain.model_validate({kind: [low, high]}).ends == [low, high]
    else:
        with pytest.raises(ValidationError, match="low must be"):
            Domain.model_validate({kind: [low, high]})


@given(st.lists(st.integers(0, 5) | st.booleans() | st.sampled_from(["1", 1.0]), max_size=6))
def test_a_value_stands_twice_only_if_its_type_does_too(values: list[Any]) -> None:
    if len({(type(value), value) for value in values}) == len(values):
        refuse_duplicates(values)
    else:
        with pytest.raises(ValueError, match="stands twice"):
            refuse_duplicates(values)


_RUNGS = {"scope", "metric", "mode", "time_attr", "grace_period", "max_t", "audit"}


@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        ("asha", {*_RUNGS, "reduction_factor"}),
        ("median", _RUNGS),
        ("fixed", {*_RUNGS, "keep"}),
        ("fifo", {"max_t"}),
    ],
)
def test_a_scheduler_has_only_the_keys_of_its_kind(kind: str, keys: set[str]) -> None:
    grace = {} if kind == "fifo" else {"grace_period": 20}
    given = {"kind": kind, "max_t": 100, "scope": "arm", "metric": "m", "mode": "max", **grace}
    assert set(SchedulerSpec.model_validate(given).effective_keys()) == keys | {"kind"}


def test_a_grid_has_no_number_of_draws() -> None:
    assert "draws_per_arm" not in SearchSpec(algorithm="grid").effective_keys()
    assert SearchSpec(draws_per_arm=3).effective_keys()["draws_per_arm"] == 3


def test_the_default_of_choose_is_in_no_identity() -> None:
    """Sweeps that were recorded before there was the key keep their hash."""
    assert "choose" not in SearchSpec(choose="best").effective_keys()
    assert SearchSpec(choose="smoothed", draws_per_arm=16).effective_keys()["choose"] == "smoothed"


def test_every_mistake_is_told_at_once_with_the_file(tmp_path: Path) -> None:
    path = write_space(tmp_path, seeds=[-1], design="ful", objective={"metric": "accuracy", "mode": "most"})
    with pytest.raises(SpecError) as error:
        load_spec(path)
    lines = str(error.value).splitlines()
    assert len(lines) == 3 and all(line.startswith(f"{path}: ") for line in lines)


@pytest.mark.parametrize("name", ["0", "''", "false"])
def test_a_name_that_names_nothing_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(SpecError, match="name"):
        read(tmp_path, f"ablate: {{x: [1, 2]}}\nname: {name}")
