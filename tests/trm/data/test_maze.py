"""Mazes: the path that is the answer, mazes from a seed, their files, and their eight images."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.sparse import coo_array
from scipy.sparse.csgraph import shortest_path

from trm.data.base import DataError, TaskShape
from trm.data.boards.csv_files import read_csv, write_csv
from trm.data.boards.npy_files import read_npy, write_npy
from trm.data.boards.rules import Boards, Puzzles
from trm.data.maze import MazeConfig
from trm.data.maze.__main__ import main
from trm.data.maze.augment import MazeAugment
from trm.data.maze.generate import default_length, generate
from trm.data.maze.paths import FREE, GOAL, PATH, START, WALL, answer, lengths, optimal_paths
from trm.data.maze.rules import MazeRules
from trm.data.maze.symmetry import cell_maps, class_keys
from trm.grid import Grid

HEADER = "source,question,answer,rating"


@pytest.fixture(scope="module")
def mazes() -> Puzzles:
    return generate(6, 60, seed=0, min_length=13)


@pytest.fixture(scope="session")
def maze_hard(shared: Path) -> Path:
    folder = shared.parent / "maze_hard"
    if not folder.is_dir():
        pytest.skip(f"no real mazes at {folder}")
    return folder


def symbols(*lines: str) -> Boards:
    return np.array([MazeRules(4).alphabet.index(char) for line in lines for char in line], np.uint8)


# The path


def test_of_equal_paths_the_one_that_looks_down_then_left_then_right_then_up():
    def solved(*lines: str) -> list[str]:
        text = MazeRules(4).text(answer(symbols(*lines), 4))
        return [text[i : i + 4] for i in range(0, 16, 4)]

    assert solved("S   ", "    ", "    ", "   G") == ["S   ", "o   ", "o   ", "oooG"]
    assert solved("G   ", "    ", "    ", "   S") == ["G   ", "o   ", "o   ", "oooS"]
    assert solved("   S", "    ", "    ", "G   ") == ["   S", "   o", "   o", "Gooo"]
    assert solved("S #G", "# # ", "#   ", "####") == ["So#G", "#o#o", "#ooo", "####"]


def test_every_label_of_maze_hard_is_that_path(maze_hard):
    for name in ("train", "test"):
        puzzles = read_csv(maze_hard / f"{name}.csv", MazeRules(30))
        assert len(puzzles) == 1000
        assert all((answer(b, 30) == s).all() for b, s in zip(puzzles.boards, puzzles.solutions, strict=True))
        assert (puzzles.ratings == (puzzles.solutions == PATH).sum(axis=1) + 1).all()


@settings(max_examples=40, deadline=None)
@given(size=st.sampled_from([4, 5, 6, 31, 32, 33, 64]), share=st.floats(0, 0.6), seed=st.integers(0, 2**32))
def test_lengths_are_those_of_the_graph(size, share, seed):
    """Against scipy's breadth-first search, on boards of words of 32 and of 64 bits."""
    rng = np.random.default_rng(seed)
    is_open = rng.random(size * size) >= share
    start, goal = rng.choice(size * size, 2, replace=False)
    is_open[[start, goal]] = True
    cells = np.arange(size * size).reshape(size, size)
    pairs = np.concatenate(
        [
            np.stack([cells[:, :-1].ravel(), cells[:, 1:].ravel()], axis=1),
            np.stack([cells[:-1].ravel(), cells[1:].ravel()], axis=1),
        ]
    )
    pairs = pairs[is_open[pairs].all(axis=1)]
    graph = coo_array((np.ones(len(pairs)), pairs.T), shape=(size * size, size * size))
    expected = shortest_path(graph, method="D", directed=False, unweighted=True, indices=start)[goal]
    found = lengths(is_open[None], np.array([start]), np.array([goal]), size)
    assert found.tolist() == [-1 if np.isinf(expected) else expected]


# Generation


@pytest.mark.parametrize("size", [6, 7, 10, 33])
def test_mazes_have_a_long_path_and_are_of_different_classes(size):
    count, least = (4, 70) if size == 33 else (100, default_length(size))
    mazes = generate(size, count, seed=3, min_length=least)
    assert len(np.unique(class_keys(mazes.boards, size))) == len(mazes) == count
    checked = MazeRules(size).checked(mazes)  # which asks for shortest paths
    assert (checked.ratings == mazes.ratings).all() and mazes.ratings.min() >= least
    assert mazes.ratings.max() > least
    assert all((answer(b, size) == s).all() for b, s in zip(mazes.boards, mazes.solutions, strict=True))


def test_mazes_of_maze_hards_size_are_like_it():
    mazes = generate(30, 12, seed=0, min_length=default_length(30))
    assert mazes.ratings.min() >= 109  # so in Maze-Hard; its mean is 113.8, and its share of walls 0.372
    assert 0.33 < (mazes.boards == WALL).mean() < 0.41


def test_a_seed_is_a_data_set(mazes):
    fewer, other = (generate(6, 40, seed, 13) for seed in (0, 1))
    assert (fewer.boards == mazes.boards[:40]).all()
    assert not (other.boards == fewer.boards).all()


def test_what_cannot_be_found_is_refused(monkeypatch):
    monkeypatch.setattr("trm.data.maze.generate._MAX_DRAWS", 2**14)
    config = MazeConfig(size=6, min_rating=30, num_train=5)
    with pytest.raises(DataError, match=r"at least 30 steps \(min_rating\).*only 0 .*default: 13"):
        config.check()
    with pytest.raises(DataError, match=r"2200 mazes of 4x4 .*lower min_rating .*or choose another size"):
        MazeConfig(size=4, min_rating=9).check()


def test_checking_the_default_generates_none(monkeypatch):
    monkeypatch.setattr("trm.data.maze.config.generate", None)
    assert MazeConfig().check() is None


# The config


def test_the_shape_follows_from_the_size():
    assert MazeConfig().shape == TaskShape(vocab_size=6, seq_len=900, grid=Grid(30, 30))
    assert MazeConfig(size=7).shape == (6, 49, 1, Grid(7, 7))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": 3}, "greater than or equal to 4"),
        ({"size": 65}, "less than or equal to 64"),
        ({"source": "embedded"}, "'generated', 'csv', 'hub' or 'npy'"),
        ({"train": "a.csv"}, "train is for source csv, but source is generated"),
        ({"source": "npy"}, "needs path"),
        ({"source": "csv", "test": "a.csv"}, "needs train and test: train is missing"),
        ({"colour": 1}, "Extra inputs"),
        ({"min_rating": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_is_refused(given, message):
    with pytest.raises(ValidationError, match=message):
        MazeConfig(**given)


# Files


def test_the_published_files(maze_hard):
    files = {split: maze_hard / f"{split}.csv" for split in ("train", "test")}
    data = MazeConfig(source="csv", **files, num_val=100).load()
    assert [len(data.train.inputs), len(data.val.inputs), len(data.test.inputs)] == [900, 100, 1000]
    assert data.train.ratings.min() == 109
    keys = [class_keys(read_csv(path, MazeRules(30)).boards, 30) for path in files.values()]
    assert not np.isin(*keys).any()
    hard = MazeConfig(source="csv", **files, min_rating=120).load()
    assert hard.test.ratings.min() == 120 and len(hard.test.inputs) < 200


def lines_of(mazes: Puzzles, count: int = 3) -> list[list[str]]:
    rules = MazeRules(6)
    pairs = zip(mazes.boards[:count], mazes.solutions[:count], strict=True)
    return [["x", rules.text(board), rules.text(solution), ""] for board, solution in pairs]


def write(path: Path, rows: list[list[str]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([HEADER.split(","), *rows])
    return path


def test_without_a_rating_it_is_the_length(mazes, tmp_path):
    read = read_csv(write(tmp_path / "a.csv", lines_of(mazes)), MazeRules(6))
    assert (read.ratings == mazes.ratings[:3]).all()
    write_csv(tmp_path / "b.csv", mazes, MazeRules(6), "me")
    again = read_csv(tmp_path / "b.csv", MazeRules(6))
    assert (again.boards == mazes.boards).all() and (again.ratings == mazes.ratings).all()


def on_both(old: str, new: str, only_once: bool = True) -> Any:
    def change(row: list[str]) -> None:
        row[1], row[2] = (text.replace(old, new, 1 if only_once else -1) for text in row[1:3])

    return change


def in_answer(old: str, new: str) -> Any:
    def change(row: list[str]) -> None:
        row[2] = row[2].replace(old, new, 1)

    return change


def set_row(question: str, solved: str) -> Any:
    def change(row: list[str]) -> None:
        row[1:3] = [question.ljust(36, "#"), solved.ljust(36, "#")]

    return change


BAD_ROWS = {
    "short": (lambda row: row.__setitem__(1, row[1][:-1]), "question has 35 characters .* 6x6 board has 36"),
    "long": (lambda row: row.__setitem__(2, row[2] + " "), "answer has 37 characters"),
    "character": (on_both("#", "X"), "question has 'X' at character .*# .wall., a space"),
    "path in the question": (on_both(" ", "o"), "question has 'o' at character"),
    "no start": (on_both("S", " "), "the question has no S, but a maze has one"),
    "no goal": (on_both("G", "#"), "the question has no G"),
    "two goals": (on_both(" ", "G"), "the question has 2 G"),
    "another wall": (
        in_answer("#", " "),
        "the answer has ' ' at row ., column ., where the question has '#'",
    ),
    "path through a wall": (in_answer("#", "o"), "the answer has 'o' at .* the question has '#'"),
    "gap": (in_answer("o", " "), "the o's of the answer are not a path from S to G: correct the answer"),
    "nothing marked": (lambda row: row.__setitem__(2, row[1]), "not a path from S to G"),
    "stray mark": (set_row("S G  #", "SoG o#"), "the answer marks 2 cells with o, but .* has 1 between"),
    "long way round": (
        set_row("S G###" + "   ###", "S G###" + "ooo###"),
        "the answer marks 3 cells with o, but a shortest path from S to G has 1 between them",
    ),
    "walled in": (set_row("S#G###", "S#G###"), "no path leads from S to G"),
    "rating": (lambda row: row.__setitem__(3, "long"), "rating is 'long'"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_a_bad_row_is_refused_with_its_place(mazes, name, tmp_path):
    damage, message = BAD_ROWS[name]
    rows = lines_of(mazes)
    damage(rows[2])
    path = write(tmp_path / "bad.csv", rows)
    with pytest.raises(DataError, match=message) as raised:
        read_csv(path, MazeRules(6))
    assert str(raised.value).startswith(f"{path}:4: ")


def test_the_size_must_fit(mazes, tmp_path, capsys):
    path = write(tmp_path / "a.csv", lines_of(mazes))
    assert main(["check", str(path)]) == 2
    assert "question has 36 characters" in (err := capsys.readouterr().err) and "or set size" in err
    write_npy(tmp_path / "npy", "train", mazes, MazeRules(6))
    with pytest.raises(DataError, match="seq_len is 36, but 30x30 maze has 900: set size"):
        read_npy(tmp_path / "npy", "train", MazeRules(30))


def test_the_references_folder(mazes, tmp_path):
    write_npy(tmp_path, "train", mazes, MazeRules(6))
    metadata = json.loads((tmp_path / "train" / "dataset.json").read_text())
    assert (metadata["vocab_size"], metadata["seq_len"]) == (6, 36)
    inputs, labels = (np.load(tmp_path / "train" / f"all__{name}.npy") for name in ("inputs", "labels"))
    assert set(np.unique(inputs)) == {1, 2, 3, 4} and set(np.unique(labels)) == {1, 2, 3, 4, 5}
    read = read_npy(tmp_path, "train", MazeRules(6))
    assert (read.boards == mazes.boards).all() and (read.ratings == mazes.ratings).all()
    np.save(tmp_path / "train" / "all__inputs.npy", labels)
    with pytest.raises(DataError, match=r"holds 5; allowed are 1 to 4 \(1 wall, 2 free, .* 5 path\)"):
        read_npy(tmp_path, "train", MazeRules(6))


def test_show_draws_the_maze(capsys):
    assert main(["show", "--size", "6", "--num-train", "5", "--num-val", "5", "--num-test", "5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("train 0: walls (%) ") and "rating 1" in lines[0]
    assert lines[1] == lines[-1] == "+------+     +------+" and len(lines) == 9
    assert "o" in "".join(lines[2:-1]) and all(len(line) == 21 for line in lines[2:-1])


# Symmetry


def images(board: Boards, size: int) -> list[bytes]:
    """The eight, by numpy's own turns."""
    square = board.reshape(size, size)
    return [np.rot90(b, turns).tobytes() for b in (square, np.fliplr(square)) for turns in range(4)]


def test_the_eight_images_are_one_class(mazes):
    for board in mazes.boards[:20]:
        mapped = board[cell_maps(6)]
        assert {image.tobytes() for image in mapped} == set(images(board, 6))
        assert len(set(class_keys(mapped, 6).tolist())) == 1
    moved = mazes.boards.copy()
    free = moved == FREE
    moved[np.arange(len(moved)), free.argmax(axis=1)] = WALL
    assert not np.isin(class_keys(moved, 6), class_keys(mazes.boards, 6)).any()


def test_every_image_is_drawn_evenly_and_moves_the_label_with_it(mazes):
    rows = [torch.from_numpy(x[:1] + np.uint8(1)).expand(4000, -1) for x in (mazes.boards, mazes.solutions)]
    inputs, labels = MazeAugment(6)(*rows, torch.Generator().manual_seed(0))
    kinds, counts = np.unique(torch.stack([inputs, labels], dim=1).numpy(), axis=0, return_counts=True)
    pairs = zip(*(images(x[0] + np.uint8(1), 6) for x in (mazes.boards, mazes.solutions)), strict=True)
    assert {(a.tobytes(), b.tobytes()) for a, b in kinds} == set(pairs)
    assert len(kinds) == 8 and counts.min() > 400 and counts.max() < 600


def test_the_image_of_a_label_is_seldom_the_label_of_the_image(maze_hard):
    """Which is why there are no variants by default."""
    puzzles = read_csv(maze_hard / "test.csv", MazeRules(30))
    agree = np.zeros(8, int)
    for board, solution in zip(puzzles.boards[:100], puzzles.solutions[:100], strict=True):
        agree += [(answer(board[image], 30) == solution[image]).all() for image in cell_maps(30)]
    assert agree[0] == 100 and sorted(agree)[6] > 80  # one reflection keeps nearly all
    assert sorted(agree)[5] < 5  # and the others hardly one


def test_none_by_default():
    data = MazeConfig(size=6, num_train=10, num_val=5, num_test=5).load()
    assert data.augment.num_aug == 0
    assert (
        MazeConfig(size=6, num_train=10, num_val=5, num_test=5, num_aug=None).load().augment.num_aug is None
    )


def test_ratings_are_told_in_buckets_just_above_the_least_length():
    assert MazeConfig().rating_bounds == (0, 111, 113, 117)
    assert MazeConfig(size=8, min_rating=12).rating_bounds == (0, 14, 16, 20)


@settings(max_examples=25, deadline=None)
@given(size=st.integers(4, 8), seed=st.integers(0, 10**6))
def test_every_shortest_path_counts_and_nothing_else(size: int, seed: int) -> None:
    """All paths of a small maze, found by walking; the label's is one of the shortest."""
    puzzles = generate(size, 1, seed, min_length=4)
    board = puzzles.boards[0]

    def walks(cell: int, seen: frozenset[int]) -> list[frozenset[int]]:
        if board[cell] == GOAL:
            return [seen]
        row, column = divmod(cell, size)
        steps = [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
        inside = [r * size + c for r, c in steps if 0 <= r < size and 0 <= c < size]
        onward = [n for n in inside if n not in seen and board[n] != WALL and len(seen) <= shortest + 1]
        return [walk for n in onward for walk in walks(n, seen | {n})]

    start = int((board == START).argmax())
    shortest = int(puzzles.ratings[0])
    found = walks(start, frozenset({start}))
    answers = []
    for walk in found:
        marked = board.copy()
        marked[[cell for cell in walk if board[cell] == FREE]] = PATH
        answers.append(marked)
    expected = [len(walk) == shortest + 1 for walk in found]
    boards = np.repeat(puzzles.boards, len(found), axis=0)
    assert optimal_paths(boards, np.stack(answers), size).tolist() == expected
    assert optimal_paths(puzzles.boards, puzzles.solutions, size).all()
    for cell in range(size * size):  # another cell marked, a wall changed, or the path broken
        other = puzzles.solutions.copy()
        other[0, cell] = PATH if other[0, cell] != PATH else FREE
        assert not optimal_paths(puzzles.boards, other, size).any()
