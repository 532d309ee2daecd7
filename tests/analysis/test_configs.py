"""python -m analysis diff, on sweeps of the toy trainer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from analysis.__main__ import main
from analysis.configs import differing_keys
from analysis.sweep import AnalysisError, Sweep, load_sweep
from tests.analysis.synthetic import RECORDED, Fake, write_sweep
from tests.sweeps.sweep_folders import Played

LEVELS = {
    "case": {"levels": {"plain": {"fail_at": None}, "late": {"fail_at": 90}, "warns": {"warns": "null"}}}
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Played(tmp_path, ablate=LEVELS).run().finish()


def printed(capsys: pytest.CaptureFixture[str], *arguments: object) -> list[list[str]]:
    """The words of each line of the diff."""
    assert main(["diff", *map(str, arguments)]) == 0
    return [line.split() for line in capsys.readouterr().out.splitlines()]


def test_only_keys_that_differ_are_shown_under_what_the_trials_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A text that looks like null is told from null."""
    assert printed(capsys, folder / "case=late-d0-s1", "case=warns-d0-s2") == [
        ["A", "B"],
        ["folder", str(folder), str(folder)],
        ["trial_id", "case=late-d0-s1", "case=warns-d0-s2"],
        ["arm", "case=late", "case=warns"],
        ["draw", "0", "0"],
        ["seed", "1", "2"],
        [],
        ["fail_at", "90", "null"],
        ["warns", '""', '"null"'],
    ]


def test_two_seeds_of_an_arm_have_the_same_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, folder / "case=plain-d0-s1", "case=plain-d0-s2")
    assert lines[5:] == [["seed", "1", "2"], [], ["same", "config"]]


def test_a_key_that_one_config_lacks_is_absent_and_not_null(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, RECORDED / "attention-d0-s1", "mamba-d0-s1")
    assert ["model.mixer.num_heads", "4", "(absent)"] in lines
    assert ["model.mixer.dt_rank", "(absent)", "null"] in lines
    assert main(["diff", "--json", str(RECORDED / "attention-d0-s1"), "mamba-d0-s1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["differs"]["model.mixer.num_heads"] == {"a": 4}
    assert found["differs"]["model.mixer.dt_rank"] == {"b": None}
    assert "optim.betas" not in found["differs"]
    assert found["a"] == {
        "folder": str(RECORDED),
        "trial_id": "attention-d0-s1",
        "arm": "attention",
        "draw": 0,
        "seed": 1,
    }


def test_trials_of_two_sweeps_are_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A number beside nulls is JSON text in the one table, and a number in the other."""
    other = Played(tmp_path, name="other", base={"fail_at": 90, "lr": 0.2}).run().finish()
    lines = printed(capsys, folder / "case=late-d0-s1", other / "a-d0-s1")
    assert lines[1:3] == [["folder", str(folder), str(other)], ["trial_id", "case=late-d0-s1", "a-d0-s1"]]
    assert lines[7:] == [["lr", "0.1", "0.2"]]


def test_the_beginning_of_an_id_will_do(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And "." is a folder too."""
    monkeypatch.chdir(folder)
    assert printed(capsys, "./case=late-d0-s1", "case=late-d0-s2")[2][1:] == [
        "case=late-d0-s1",
        "case=late-d0-s2",
    ]
    one_seed = Played(folder, name="few", seeds=[1]).run().finish()
    assert printed(capsys, one_seed / "a", "b")[2] == ["trial_id", "a-d0-s1", "b-d0-s1"]


def test_a_whole_id_is_no_beginning_of_another_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Played(tmp_path, seeds=[1, 11]).run().finish()
    assert printed(capsys, folder / "a-d0-s1", "a-d0-s11")[5] == ["seed", "1", "11"]


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (
            "{folder}/case=lat-d0-s1",
            "case=warns-d0-s1",
            ["'case=lat-d0-s1'", "did you mean case=late-d0-s1?"],
        ),
        (
            "{folder}/case=late",
            "case=warns-d0-s1",
            ["2 trials begin with 'case=late'", "and case=late-d0-s2"],
        ),
        ("{folder}/", "case=warns-d0-s1", ["6 trials begin with ''"]),
        ("case=late-d0-s1", "case=warns-d0-s1", ["names no sweep", "results/smoke/case=late-d0-s1"]),
        ("{folder}/case=late-d0-s1", "nowhere/x", ["nowhere is no folder"]),
    ],
)
def test_a_trial_that_is_not_found_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], one: str, other: str, words: list[str]
) -> None:
    assert main(["diff", one.format(folder=folder), other]) == 2
    out, err = capsys.readouterr()
    assert not out and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err


def test_a_trial_that_has_not_started_has_no_config(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Played(tmp_path).run(1).finish()
    assert main(["diff", str(folder / "a-d0-s1"), "b-d0-s1"]) == 2
    assert "b-d0-s1 has not started" in capsys.readouterr().err


def test_tables_from_before_say_how_to_write_this_one(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The sweep itself is loaded as ever."""
    (folder / "configs.parquet").unlink()
    assert len(load_sweep(folder).trials) == 6
    assert main(["diff", str(folder / "case=late-d0-s1"), "case=warns-d0-s1"]) == 2
    advice = f"python -m sweeps report {folder.name} --storage {folder.parent}"
    assert advice in capsys.readouterr().err


def test_a_sweep_from_elsewhere_says_where_its_config_is(tmp_path: Path) -> None:
    sweep = load_sweep(write_sweep(tmp_path / "demo", {"mlp": Fake(0.9)}))
    with pytest.raises(AnalysisError, match="columns of `trials`"):
        _ = Sweep(sweep.trials, sweep.history, sweep.decisions, sweep.space).configs


def test_true_is_not_one_and_four_is_the_number_that_a_float_has() -> None:
    one = {"flag": True, "flags": [True], "numbers": [4, [1]], "number": 4, "text": "4", "gone": None}
    other = {"flag": 1, "flags": [1], "numbers": [4.0, [1]], "number": 4.0, "text": 4, "new": None}
    assert differing_keys(one, other) == [
        "flag",
        "flags",
        "text",
        "gone",
        "new",
    ]
