from __future__ import annotations

import subprocess
import sys

import pytest

from trm.data.boards.splits import load_splits
from trm.data.sudoku import SudokuConfig
from trm.data.sudoku.__main__ import main
from trm.data.sudoku.rules import SudokuRules

SMALL = ["--size", "4", "--num-train", "30", "--num-val", "10", "--num-test", "10"]


def refused(capsys, *argv) -> str:
    assert main(argv) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


@pytest.mark.parametrize("num_aug", [0, 3])
def test_prepare_npy_and_read_it_back(tmp_path, capsys, num_aug):
    out = tmp_path / "out"
    assert main(["prepare", *SMALL, "--num-aug", str(num_aug), "--out", str(out)]) == 0
    direct = load_splits(SudokuConfig(size=4, num_train=30, num_val=10, num_test=10))
    read = load_splits(SudokuConfig(source="npy", path=out, size=4))
    for split in ("train", "val", "test"):
        original, again = getattr(direct, split), getattr(read, split)
        copies = num_aug + 1 if split == "train" else 1
        assert len(again) == copies * len(original)
        assert (again.boards[::copies] == original.boards).all()
        assert (again.solutions[::copies] == original.solutions).all()
        assert (again.groups == copies * original.groups).all()
        assert len({row.tobytes() for row in again.boards}) > (copies - 1) * len(original)
    capsys.readouterr()
    assert main(["check", str(out), "--size", "4"]) == 0
    assert "train: " in capsys.readouterr().out


def test_prepare_csv_and_check_it(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["prepare", *SMALL, "--format", "csv", "--out", str(out)]) == 0
    assert main(["check", "--size", "4", *(str(out / f"{s}.csv") for s in ("train", "val", "test"))]) == 0
    assert "train.csv: 30 puzzles, all valid, each with one solution" in capsys.readouterr().out
    files = {split: out / f"{split}.csv" for split in ("train", "val", "test")}
    read = load_splits(SudokuConfig(source="csv", size=4, **files))
    direct = load_splits(SudokuConfig(size=4, num_train=30, num_val=10, num_test=10))
    assert (read.val.boards == direct.val.boards).all()


def test_nothing_is_written_over(tmp_path, capsys):
    (tmp_path / "mine").touch()
    message = refused(capsys, "prepare", *SMALL, "--out", str(tmp_path))
    assert "already exists" in message
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    assert "mine" in refused(capsys, "prepare", *SMALL, "--out", str(tmp_path / "mine" / "out"))


def test_inspect(capsys):
    assert main(["inspect", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "train        30 rows        30 groups        30 classes  clues 5 to 8" in out
    assert out.count("rating  0: ") == 3
    assert "classes in both train and val: 0" in out
    assert SudokuConfig(size=4, num_train=30, num_val=10, num_test=10).load().hash in out


def test_inspect_tells_of_puzzles_that_are_left_out(tmp_path, capsys):
    main(["prepare", *SMALL, "--format", "csv", "--out", str(tmp_path / "out")])
    path = str(tmp_path / "out" / "train.csv")
    options = ["--source", "csv", "--size", "4", "--train", path, "--test", path, "--num-test", "5"]
    for _ in range(2):  # from the cache, too
        capsys.readouterr()
        assert main(["inspect", *options]) == 0
        out = capsys.readouterr().out
        assert "classes in both train and test: 0" in out
        assert "5 of the 30 train puzzles looked at are left out: symmetries of them are in test\n" in out


def test_inspect_tells_how_many_solutions_were_searched_for(monkeypatch, capsys):
    monkeypatch.setattr("trm.data.boards.cli.CHECKED", 20)
    assert main(["inspect", *SMALL]) == 0
    out = capsys.readouterr().out
    assert out.count("checked, each with one solution: all\n") == 2
    assert out.count("checked, each with one solution: 20 of 30, drawn at random\n") == 1


def test_check_counts_the_solutions_of_every_row(tmp_path, capsys):
    main(["prepare", *SMALL, "--format", "csv", "--out", str(tmp_path / "out")])
    path = tmp_path / "out" / "train.csv"
    *others, last = path.read_text().splitlines()
    source, question, answer, rating = last.split(",")
    path.write_text("\n".join([*others, f"{source},{'.' * len(question)},{answer},{rating}"]))
    capsys.readouterr()
    assert "train.csv:31: the puzzle" in refused(capsys, "check", "--size", "4", str(path))


def test_show(capsys):
    assert main(["show", *SMALL, "--split", "val", "--index", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("val 3: ")
    assert len(lines) == 8
    assert lines[1] == "+-----+-----+     +-----+-----+"
    assert "--index 10: val has 10 puzzles" in refused(
        capsys, "show", *SMALL, "--split", "val", "--index", "10"
    )


def test_the_picture_of_6x6_has_wide_boxes(puzzles):
    board = puzzles[6][0][0]
    lines = SudokuRules(6).picture(board).splitlines()
    assert len(lines) == 10
    assert lines[0] == lines[3] == lines[6] == lines[9] == "+-------+-------+"
    shown = "".join(lines).translate(str.maketrans("", "", "+-| "))
    assert shown == "".join(map(str, board)).replace("0", ".")


def test_bad_input_is_one_message(capsys, tmp_path):
    assert refused(capsys, "inspect", "--size", "5") == "options: size: must be 4, 6 or 9 (given 5)\n"
    assert "needs path" in refused(capsys, "inspect", "--source", "npy")
    assert "no such file" in refused(capsys, "check", str(tmp_path / "none.csv"))
    assert "no such folder" in refused(capsys, "check", str(tmp_path))


def test_as_a_module():
    command = [sys.executable, "-W", "error", "-m", "trm.data.sudoku", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert done.stderr == ""
    for word in ("prepare", "inspect", "show", "check"):
        assert word in done.stdout
