"""`python -m trm predict | evaluate | export | convert`, on a model that has learnt a few puzzles."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TextIO

import pytest
import torch

from tests.trm.test_trained import CONFIG
from trm.__main__ import main
from trm.data.boards.csv_files import write_csv
from trm.data.boards.splits import load_splits
from trm.data.maze import MazeConfig
from trm.data.sudoku import SudokuConfig
from trm.model import build_model
from trm.scores import _mean_with_interval
from trm.trained import Trained, export, load
from trm.trainer import train
from trm.trial import LocalTrial


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`best`, a checkpoint, and train.csv and test.csv with the puzzles of its data."""
    folder = tmp_path_factory.mktemp("use")
    train(CONFIG, LocalTrial(folder / "run", seed=0, device="cpu"))
    (folder / "run" / "best").rename(folder / "best")
    task = CONFIG.data
    assert isinstance(task, SudokuConfig)
    for name, puzzles in load_splits(task).parts.items():
        write_csv(folder / f"{name}.csv", puzzles, task.rules, "here")
    return folder


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def rows_of(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


def test_boards_are_solved_and_counted(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "best", "test.csv"]) == 0
    *boards, last = capsys.readouterr().out.splitlines()
    answers = [row["answer"] for row in rows_of("test.csv")]
    right = sum(board == answer for board, answer in zip(boards, answers, strict=True))
    assert last == f"{right} of 20 boards are right"


def test_the_count_is_that_of_evaluate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "boards.csv"
    assert main(["predict", "best", "train.csv", "--out", str(out)]) == 0
    written = rows_of(str(out))
    capsys.readouterr()
    assert main(["evaluate", "best", "--data", "train.csv", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["exact_accuracy"][0] == pytest.approx(sum(int(row["right"]) for row in written) / 40)
    cells = [
        sum(a == b for a, b in zip(row["prediction"], solved["answer"], strict=True)) / 16
        for row, solved in zip(written, rows_of("train.csv"), strict=True)
    ]
    assert found["cell_accuracy"][0] == pytest.approx(sum(cells) / 40)
    assert found["by_step"][-1]["cell_accuracy"] == found["cell_accuracy"]
    assert [row["step"] for row in found["by_step"]] == [1, 2]
    assert found["by_rating"][0]["rows"] == 40


def test_the_overlap_with_the_training_puzzles_is_told(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["evaluate", "best", "--data", "train.csv", "--rows", "7", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["training_overlap"] == 7 and "WARNING: 7 of the 7" in shown.err
    assert main(["evaluate", "best", "--data", "test.csv"]) == 0
    shown = capsys.readouterr()
    assert "none of the 20 puzzles" in shown.err and "exact_accuracy" in shown.out
    other = load("best")
    export(type(other)(other.model, other.config, "converted", knows_data=False), tmp_path / "converted")
    assert main(["evaluate", str(tmp_path / "converted"), "--data", "test.csv", "--json"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["training_overlap"] is None and "is not known" in shown.err


def test_puzzles_without_answers_are_solved(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    questions = tmp_path / "questions.csv"
    questions.write_text("question\n" + "\n".join(row["question"] for row in rows_of("test.csv")) + "\n")
    assert main(["predict", "best", str(questions)]) == 0
    alone = capsys.readouterr().out.splitlines()
    assert main(["predict", "best", "test.csv"]) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == alone
    assert main(["evaluate", "best", "--data", str(questions)]) == 2
    assert "no column answer" in capsys.readouterr().err


def test_a_path_is_printed_as_it_is(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "a[red]b[bold].csv"
    assert main(["predict", "best", "test.csv", "--out", str(out)]) == 0
    assert f"{out}: 20 boards\n" in capsys.readouterr().out and len(rows_of(str(out))) == 20


def test_a_file_that_cannot_be_written_is_not_left_in_part(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full:
        def __init__(self, file: TextIO) -> None:
            self.file = file

        def writerow(self, row: list[str]) -> None:
            self.file.write("half")
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(csv, "writer", Full)
    assert main(["predict", "best", "test.csv", "--out", str(tmp_path / "out.csv")]) == 2
    assert "out.csv: cannot be written (No space left on device)" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_noticed_before_the_model_runs(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trained, "predict", lambda *_: pytest.fail("the model ran"))
    for folder in ("missing", "file"):
        (tmp_path / "file").touch()
        assert main(["predict", "best", "test.csv", "--out", str(tmp_path / folder / "out.csv")]) == 2
        assert f"there is no folder {tmp_path / folder}: make it" in capsys.readouterr().err


def test_an_untrained_halting_head_has_no_confidence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    fields = CONFIG.model_dump()
    config = type(CONFIG).model_validate(fields | {"model": fields["model"] | {"act": "none"}})
    checkpoint, out = str(tmp_path / "none"), str(tmp_path / "out.csv")
    export(Trained(build_model(config, seed=0, device="cpu"), config, "raw"), checkpoint)
    assert main(["predict", checkpoint, "test.csv", "--show", "1", "--out", out]) == 0
    shown = capsys.readouterr().out
    assert "step 1: " in shown and "%" not in shown
    assert {row["confidence"] for row in rows_of(out)} == {""}


@pytest.mark.parametrize("share", [0.0, 0.75, 1.0])
def test_an_interval_has_a_width_where_all_rows_agree(share: float) -> None:
    for rows in (1, 20):
        mean, low, high = _mean_with_interval(torch.full((rows,), share))
        assert mean == share and low <= mean <= high and high - low > 1 / (rows + 4)


def test_the_interval_of_cells_has_its_confidence() -> None:
    """Where few rows are not solved too: the normal interval holds the mean in 64% of these samples."""
    generator = torch.Generator().manual_seed(0)
    drawn = torch.rand(2, 2000, 20, generator=generator)
    cells = torch.where(drawn[0] < 0.95, 1.0, 0.6 + 0.3 * drawn[1])
    intervals = [_mean_with_interval(rows) for rows in cells]
    assert sum(low <= 0.95 + 0.05 * 0.75 <= high for _, low, high in intervals) / 2000 > 0.95
    many = 0.4 + 0.3 * torch.rand(1000, generator=generator)
    _, low, high = _mean_with_interval(many)
    assert high - low == pytest.approx(2 * 1.96 * float(many.std()) / 1000**0.5, rel=0.1)


def test_boards_are_shown_step_by_step(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "best", "test.csv", "--show", "2", "--steps", "3"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("given") == shown.count("step 3: ") == 2 and "step 4" not in shown
    first = rows_of("test.csv")[0]["question"]
    assert " ".join(first[:2]) in shown


def test_weights_are_exported_and_converted_there_and_back(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    exported, file, back = (str(tmp_path / name) for name in ("exported", "reference/step_3", "back"))
    assert main(["export", "best", exported]) == 0
    assert main(["convert", exported, file, "--to-reference"]) == 0
    assert main(["convert", file, back]) == 0
    capsys.readouterr()
    boards = []
    for folder in ("best", exported, back):
        assert main(["predict", folder, "test.csv"]) == 0
        boards.append(capsys.readouterr().out)
    assert boards[0] == boards[1] == boards[2]
    assert main(["convert", exported, file, "--to-reference"]) == 2
    assert "already exists" in capsys.readouterr().err


PUZZLE = "...1.4.232......"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", ":1: no column question"),
        ("question\n", "contains no puzzle"),
        (f"question\n{PUZZLE}\n{PUZZLE[1:]}\n", ":3: question has 15 characters"),
        (f"question\n{PUZZLE * 2}\n", ":2: question has 32 characters"),
        (f"question\n{PUZZLE[1:]}x\n", ":2: question has 'x' at character 16"),
        (f"question,answer\n{PUZZLE}\n", ":2: 1 fields"),
        (f"question,answer\n{PUZZLE},{PUZZLE}\n", ":2: answer has '.'"),
        (f"question,answer\n{PUZZLE},{'1' * 16}\n", ":2: the answer is not a solved 4x4 board"),
    ],
)
def test_puzzles_that_do_not_fit_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, message: str
) -> None:
    path, out = tmp_path / "puzzles.csv", tmp_path / "out.csv"
    path.write_text(content)
    assert main(["predict", "best", str(path), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert f"{path}{message}" in error or (str(path) in error and message in error)
    assert error.count("\n") == 1 and not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predict", "nowhere", "test.csv"], "no such folder"),
        (["predict", "best", "nowhere.csv"], "no such file"),
        (["predict", "best", "test.csv", "--out", "test.csv"], "already exists"),
        (["predict", "best", "test.csv", "--device", "cuda:9"], "no such device"),
        (["convert", "test.csv", "converted"], "not a readable checkpoint"),
        (["convert", "nowhere", "converted"], "no such file"),
        (["export", "best", "best"], "already exists"),
        (["export", "best", "."], ".: already exists, and nothing is overwritten: give a folder that does"),
        (["export", "best", "test.csv/out"], "cannot be written"),
        (["predict", "b" * 300, "test.csv"], "cannot be read or written (File name too long)"),
    ],
)
def test_bad_input_is_one_message(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    before = sorted(Path.cwd().rglob("*"))
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert sorted(Path.cwd().rglob("*")) == before


@pytest.mark.parametrize("option", ["--steps", "--show", "--batch-size"])
@pytest.mark.parametrize("value", ["0", "-1", "few"])
def test_counts_are_whole_numbers(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "best", "test.csv", option, value])
    assert "whole number from 1 on" in capsys.readouterr().err


def test_mazes_count_every_shortest_path(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    fields = CONFIG.model_dump() | {"data": {"task": "maze", "size": 6, "num_train": 40, "num_val": 9}}
    config = type(CONFIG).model_validate(fields | {"data": fields["data"] | {"num_test": 8}})
    trial = LocalTrial(tmp_path / "run", seed=0, device="cpu")
    train(config, trial)
    last = trial.history[-1]
    for name in ("test/", "test/chosen_"):
        assert last[f"{name}exact_accuracy"] <= last[f"{name}optimal_path_accuracy"] <= 1
    task = config.data
    assert isinstance(task, MazeConfig)
    write_csv(tmp_path / "test.csv", load_splits(task).test, task.rules, "here")
    checkpoint, data = str(tmp_path / "run" / "last"), str(tmp_path / "test.csv")
    assert main(["evaluate", checkpoint, "--data", data, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optimal_path_accuracy"][0] == last["test/chosen_optimal_path_accuracy"]
    assert main(["predict", checkpoint, data, "--show", "1"]) == 0
    right = round(found["optimal_path_accuracy"][0] * 8)
    said = f"{right} of 8 boards are right with any shortest path (optimal_path_accuracy)"
    assert capsys.readouterr().out.splitlines()[-1] == said
