from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import trm.data.sudoku
from tests.trm.data.conftest import rows_of
from tests.trm.data.symmetry import random_symmetry
from trm.data.base import DataError
from trm.data.boards.csv_files import write_csv
from trm.data.boards.npy_files import write_npy
from trm.data.boards.rules import Puzzles
from trm.data.boards.splits import cut_val, load_splits
from trm.data.sudoku import SudokuConfig
from trm.data.sudoku.board import class_keys
from trm.data.sudoku.generate import RECIPES, generate
from trm.data.sudoku.rules import SudokuRules


def keys_of(puzzles: Puzzles, size: int) -> set[int]:
    return set(class_keys(puzzles.boards, puzzles.solutions, size).tolist())


def single(boards, solutions, rating=0):
    return Puzzles.single(boards, solutions, np.full(len(boards), rating, np.int32))


@pytest.fixture
def files(puzzles, tmp_path) -> dict[str, Path]:
    """A train and a test file of 6x6 puzzles; their ratings count up."""
    paths = {}
    for split, part in (("train", slice(0, 80)), ("test", slice(80, 100))):
        boards, solutions = (x[part] for x in puzzles[6])
        ratings = np.arange(len(boards), dtype=np.int32)
        paths[split] = tmp_path / f"{split}.csv"
        write_csv(paths[split], Puzzles.single(boards, solutions, ratings), SudokuRules(6), "test")
    return paths


@settings(max_examples=25, deadline=None)
@given(
    size=st.sampled_from([4, 6, 9]),
    copies=st.lists(st.integers(1, 4), min_size=2, max_size=40),
    num_val=st.integers(1, 10),
    num_train=st.none() | st.integers(1, 20),
    in_test=st.integers(0, 5),
    seed=st.integers(0, 2**32),
)
def test_no_class_is_in_two_of_train_val_and_test(puzzles, size, copies, num_val, num_train, in_test, seed):
    """Whatever symmetries of the same puzzles stand in the files, and in whatever order."""
    rng = np.random.default_rng(seed)
    rows = rng.permuted(np.repeat(np.arange(len(copies)), copies))
    whole = single(*random_symmetry(*(x[rows] for x in puzzles[size]), size, rng))
    taken = class_keys(*(x[:in_test] for x in puzzles[size]), size)
    classes = max(0, len(copies) - in_test)
    try:
        train, val, left_out = cut_val(whole, num_train, num_val, SudokuRules(size), rng, taken)
    except DataError:
        assert num_val + (num_train or 1) > classes  # with more classes than that it cannot fail
        return
    if num_train is None:
        left = sum(copies[:in_test])
        assert left_out.partition(" puzzles")[0] == (f"{left} of the {len(whole)} train" if left else "")
    assert not (keys_of(train, size) | keys_of(val, size)) & set(taken.tolist())
    assert not keys_of(train, size) & keys_of(val, size)
    assert len(val) == len(keys_of(val, size)) == num_val
    if num_train is None:
        others = classes - num_val
        assert len(keys_of(train, size)) == others
    else:
        assert len(train) == num_train
    assert rows_of(train.boards) | rows_of(val.boards) <= rows_of(whole.boards)


@settings(max_examples=25, deadline=None)
@given(
    copies=st.lists(st.integers(1, 4), min_size=12, max_size=40),
    num_train=st.integers(1, 8),
    more=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_a_smaller_train_is_part_of_a_larger_one_and_val_is_the_same(puzzles, copies, num_train, more, seed):
    """So that `data.num_train` can be a factor: its arms differ in nothing else."""
    rng = np.random.default_rng(seed)
    rows = rng.permuted(np.repeat(np.arange(len(copies)), copies))
    whole = single(*random_symmetry(*(x[rows] for x in puzzles[4]), 4, rng))

    def cut(num_train: int):
        return cut_val(whole, num_train, 3, SudokuRules(4), np.random.default_rng(seed))

    try:
        larger = cut(num_train + more)
    except DataError:
        return
    smaller = cut(num_train)
    assert np.array_equal(smaller[1].boards, larger[1].boards)
    assert rows_of(smaller[0].boards) <= rows_of(larger[0].boards)
    assert (len(smaller[0]), len(larger[0])) == (num_train, num_train + more)


def overlapping(puzzles, folder: Path, **ranges: slice) -> SudokuConfig:
    """CSV files of 6x6 puzzles, other symmetries of them in each."""
    for number, (split, part) in enumerate(ranges.items()):
        boards, solutions = random_symmetry(*(x[part] for x in puzzles[6]), 6, np.random.default_rng(number))
        write_csv(folder / f"{split}.csv", single(boards, solutions), SudokuRules(6), "test")
    return SudokuConfig(source="csv", size=6, **{split: folder / f"{split}.csv" for split in ranges})


def test_what_test_has_is_left_out_of_train(puzzles, tmp_path, empty_cache, caplog):
    config = overlapping(puzzles, tmp_path, train=slice(80), test=slice(60, 100))
    splits = load_splits(config)
    assert [len(part) for part in splits.parts.values()] == [52, 8, 40]
    assert len(set.union(*(keys_of(part, 6) for part in splits.parts.values()))) == 100
    assert (
        splits.left_out == "20 of the 80 train puzzles looked at are left out: symmetries of them are in test"
    )
    assert caplog.messages == [f"data: {splits.left_out}"]
    assert load_splits(config).left_out == splits.left_out  # from the cache
    assert len(caplog.messages) == 1

    splits = load_splits(config.model_copy(update={"num_test": 5, "num_train": 40, "num_val": 30}))
    assert [len(part) for part in splits.parts.values()] == [40, 30, 5]
    assert len(set.union(*(keys_of(part, 6) for part in splits.parts.values()))) == 75


def test_what_a_val_file_has_is_left_out_of_train(puzzles, tmp_path):
    config = overlapping(puzzles, tmp_path, train=slice(80), val=slice(50, 70), test=slice(60, 100))
    splits = load_splits(config)
    assert [len(part) for part in splits.parts.values()] == [50, 10, 40]
    assert len(set.union(*(keys_of(part, 6) for part in splits.parts.values()))) == 100
    assert splits.left_out == (
        "10 of the 20 val puzzles looked at are left out: symmetries of them are in test; "
        "30 of the 80 train puzzles looked at are left out: symmetries of them are in val or test"
    )
    fewer = load_splits(config.model_copy(update={"num_val": 4}))
    assert [len(part) for part in fewer.parts.values()] == [50, 4, 40]  # num_val does not change train


@pytest.mark.parametrize(
    ("val", "test", "given", "message"),
    [
        (None, slice(60, 100), {"num_train": 70}, r"70 others .* has 60 .*\(20 of the 80 train .* in test\)"),
        (None, slice(100), {}, r"8 val puzzles .* 0 puzzles .*\(80 of the 80 train .*give other files"),
        (
            slice(70, 90),
            slice(60, 100),
            {},
            r"puzzles for val are wanted, .* \(20 of the 20 val .*: give other",
        ),
        (
            slice(50, 70),
            slice(60, 100),
            {"num_val": 15},
            r"^data: num_val is 15, but there are 10 puzzles \(10 of the 20 val puzzles looked at are left "
            r"out: symmetries of them are in test\): lower num_val or give other files$",
        ),
        (slice(40, 60), slice(60, 100), {"num_train": 41}, r"num_train is 41, .* 40 .*\(40 of the 80 train"),
        (slice(60), slice(60, 100), {}, r"puzzles for train are wanted, .* \(80 of the 80 .* in val or test"),
    ],
)
def test_where_too_little_is_left_the_message_says_why(puzzles, tmp_path, val, test, given, message):
    ranges = {"train": slice(80), **({"val": val} if val else {}), "test": test}
    config = overlapping(puzzles, tmp_path, **ranges).model_copy(update=given)
    with pytest.raises(DataError, match=message):
        config.check()


@pytest.mark.parametrize("has_val", [False, True])
def test_only_as_many_rows_are_compared_as_are_needed(puzzles, tmp_path, monkeypatch, has_val):
    ranges = {"train": slice(50), **({"val": slice(70, 80)} if has_val else {}), "test": slice(40, 70)}
    config = overlapping(puzzles, tmp_path, **ranges).model_copy(update={"num_train": 15, "num_val": 5})
    header, *rows = (tmp_path / "train.csv").read_text().splitlines()
    (tmp_path / "train.csv").write_text("\n".join([header, *rows * 40]))
    asked = []
    monkeypatch.setattr(
        "trm.data.sudoku.rules.class_keys", lambda *given: asked.append(len(given[0])) or class_keys(*given)
    )
    assert [len(part) for part in load_splits(config).parts.values()] == [15, 5, 30]
    assert sum(asked) < 200  # of 2,000


@pytest.mark.parametrize("where", ["train", "val", "test"])
def test_every_puzzle_that_is_drawn_has_one_solution(tmp_path, where):
    boards, solutions = generate(4, 1800, seed=0)
    sizes = {split: 1200 if split == where else 300 for split in ("train", "val", "test")}
    edges = np.cumsum([0, *sizes.values()])
    files = {split: tmp_path / f"{split}.csv" for split in sizes}
    for (split, file), start, end in zip(files.items(), edges[:-1], edges[1:], strict=True):
        part = Puzzles.single(boards[start:end], solutions[start:end], np.ones(end - start, np.int32))
        if split == where:
            part.boards[692], part.ratings[692] = 0, 0  # a sample of 1,000 would miss it
        write_csv(file, part, SudokuRules(4), "test")
    config = SudokuConfig(source="csv", size=4, **files)
    with pytest.raises(DataError, match=rf"{where}\.csv:694: the puzzle \.{{16}} has more than one solution"):
        load_splits(config)
    assert len(load_splits(config.model_copy(update={"min_rating": 1})).parts[where]) == 1199  # not drawn
    if where != "test":
        return
    val_is_cut = config.model_copy(update={"train": files["test"], "val": None, "test": files["train"]})
    with pytest.raises(DataError, match=r"test\.csv:694: the puzzle"):
        load_splits(val_is_cut)


@pytest.mark.parametrize("size", [4, 6, 9])
def test_embedded_splits_share_no_class(size):
    counts = {"num_train": 300, "num_val": 200, "num_test": 100}
    splits = load_splits(SudokuConfig(size=size, **counts))
    assert [len(part) for part in splits.parts.values()] == [300, 200, 100]
    keys = [keys_of(part, size) for part in splits.parts.values()]
    assert len(set.union(*keys)) == 600
    more = load_splits(SudokuConfig(size=size, **{**counts, "num_train": 400}))
    assert (more.val.boards == splits.val.boards).all()
    assert (more.test.boards == splits.test.boards).all()


def test_embedded_4x4_by_default():
    data = SudokuConfig(size=4).load()
    recipe = RECIPES[4]
    assert data.train.inputs.shape == (recipe.num_train, 16)
    assert data.val.inputs.shape == (recipe.num_val, 16)
    assert recipe.num_val >= 200
    assert data.train.inputs.dtype == data.train.labels.dtype == torch.uint8
    assert data.train.ratings.dtype == torch.int32
    assert set(data.train.inputs.unique().tolist()) == {1, 2, 3, 4, 5}
    assert set(data.train.labels.unique().tolist()) == {2, 3, 4, 5}
    clues = (data.val.inputs > 1).sum(dim=1)
    assert 5 <= clues.min() <= clues.max() <= 8


def test_the_packaged_hard_puzzles():
    splits = load_splits(SudokuConfig(source="generated_hard"))
    assert len(splits.train) + len(splits.val) == 3787
    assert len(splits.val) == 378
    assert len(splits.test) == 1000
    keys = [keys_of(part, 9) for part in splits.parts.values()]
    assert len(set.union(*keys)) == 4787
    assert 8 < splits.train.ratings.mean() < 10


def test_csv_files_are_split_as_asked(files):
    config = SudokuConfig(source="csv", size=6, num_train=30, num_val=20, num_test=10, **files)
    splits = load_splits(config)
    assert [len(part) for part in splits.parts.values()] == [30, 20, 10]
    assert splits.test.ratings.tolist() == sorted(splits.test.ratings.tolist())  # in the file's order
    other = load_splits(config.model_copy(update={"seed": 1}))
    assert not np.array_equal(other.train.ratings, splits.train.ratings)
    all_rows = load_splits(SudokuConfig(source="csv", size=6, **files))
    assert [len(part) for part in all_rows.parts.values()] == [72, 8, 20]


def test_a_val_file_is_val(files, puzzles, tmp_path):
    write_csv(tmp_path / "val.csv", single(*(x[:30] for x in puzzles[6])), SudokuRules(6), "test")
    write_csv(files["train"], single(*(x[30:80] for x in puzzles[6])), SudokuRules(6), "test")
    splits = load_splits(SudokuConfig(source="csv", size=6, **files, val=tmp_path / "val.csv", num_val=5))
    assert [len(part) for part in splits.parts.values()] == [50, 5, 20]
    assert rows_of(splits.val.boards) <= rows_of(puzzles[6][0][:30])
    assert splits.left_out == ""


def test_min_rating(files):
    splits = load_splits(SudokuConfig(source="csv", size=6, **files, min_rating=15))
    assert splits.test.ratings.tolist() == list(range(15, 20))
    assert sorted([*splits.train.ratings, *splits.val.ratings]) == list(range(15, 80))
    with pytest.raises(DataError, match=r"test\.csv: no puzzle .* min_rating 20 \(the highest is 19\)"):
        load_splits(SudokuConfig(source="csv", size=6, **files, min_rating=20))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_test": 21}, "num_test is 21, but there are 20 puzzles"),
        ({"num_val": 80}, "80 val puzzles .* 80 puzzles in 80 symmetry classes.*lower num_val"),
        ({"num_train": 71, "num_val": 10}, "71 others to train on"),
    ],
)
def test_more_puzzles_than_there_are_is_refused(files, given, message):
    with pytest.raises(DataError, match=message):
        SudokuConfig(source="csv", size=6, **files, **given).check()


def test_npy_groups_stay_whole(puzzles, tmp_path):
    boards, solutions = (np.repeat(x, 3, axis=0) for x in puzzles[4])
    boards, solutions = random_symmetry(boards, solutions, 4, np.random.default_rng(0))
    groups = Puzzles(boards, solutions, np.full(300, -1, np.int32), np.arange(101) * 3)
    for split in ("train", "test"):
        write_npy(tmp_path, split, groups, SudokuRules(4))
    config = SudokuConfig(source="npy", size=4, path=tmp_path, num_train=50, num_val=20, num_test=10)
    splits = load_splits(config)
    assert [len(part) for part in splits.parts.values()] == [150, 20, 30]
    assert not keys_of(splits.train, 4) & keys_of(splits.val, 4)
    assert len(keys_of(splits.train, 4)) == 50
    assert (splits.train.groups == np.arange(51) * 3).all()
    assert (splits.train.groups == config.load().groups.numpy()).all()
    write_npy(tmp_path, "val", groups.take_groups(np.arange(60)), SudokuRules(4))
    splits = load_splits(SudokuConfig(source="npy", size=4, path=tmp_path, num_test=20))
    assert len(splits.val) % 3 == len(splits.train) % 3 == 0
    assert len(splits.train) + len(splits.val) + len(splits.test) == 300
    keys = [keys_of(part, 4) for part in splits.parts.values()]
    assert [3 * len(part) for part in keys] == [len(part) for part in splits.parts.values()]
    assert len(set.union(*keys)) == 100


def test_variants_in_a_folder_are_all_that_train_has_unless_more_are_asked_for(puzzles, tmp_path):
    boards, solutions = (np.repeat(x[:20], 3, axis=0) for x in puzzles[4])
    boards, solutions = random_symmetry(boards, solutions, 4, np.random.default_rng(0))
    rows = Puzzles(boards, solutions, np.full(60, -1, np.int32), np.arange(21) * 3)
    write_npy(tmp_path, "train", rows, SudokuRules(4))
    write_npy(tmp_path, "val", single(*(x[20:30] for x in puzzles[4])), SudokuRules(4))
    write_npy(tmp_path, "test", single(*(x[30:40] for x in puzzles[4])), SudokuRules(4))
    config = SudokuConfig(source="npy", size=4, path=tmp_path)
    grouped = config.load()
    assert grouped.groups.tolist() == list(range(0, 61, 3))
    assert grouped.groups.dtype == torch.int64
    assert grouped.augment.num_aug == 0
    assert config.model_copy(update={"num_aug": 5}).load().augment.num_aug == 5
    np.save(tmp_path / "train" / "all__group_indices.npy", np.arange(61))
    ungrouped = config.load()
    assert ungrouped.groups.tolist() == list(range(61))
    assert ungrouped.augment.num_aug is None
    assert ungrouped.hash != grouped.hash  # the same rows, but in other batches


def test_the_hash_is_of_the_content(files, empty_cache):
    config = SudokuConfig(source="csv", size=6, **files)
    first, again = config.load(), config.load()
    assert first.hash == again.hash
    assert len(first.hash) == len(hashlib.sha256().hexdigest())
    assert config.model_copy(update={"num_aug": 3}).load().hash == first.hash
    lines = files["test"].read_text().splitlines()
    files["test"].write_text("\n".join(lines[:-1]))
    assert config.load().hash != first.hash


def test_a_changed_file_is_read_anew(files, empty_cache):
    config = SudokuConfig(source="csv", size=6, **files)
    config.check()
    content = files["train"].read_bytes()
    files["train"].write_bytes(content.replace(b",test,", b",", 1).replace(b"test,", b"test,x", 1))
    with pytest.raises(DataError, match=r"train\.csv:2: question has 37 characters"):
        config.check()
    files["train"].unlink()
    with pytest.raises(DataError, match="no such file"):
        config.check()


def test_the_cache_is_used_and_can_be_done_without(files, empty_cache, monkeypatch, tmp_path):
    config = SudokuConfig(source="csv", size=6, **files)
    first = config.load()
    (entry,) = empty_cache.glob("*.pt")
    monkeypatch.setattr("trm.data.boards.splits.read_csv", None)  # it would have to be called
    assert config.load().hash == first.hash
    monkeypatch.undo()
    for content in (b"", b"PK\x03\x04 torn", entry.read_bytes()[:900]):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        entry.write_bytes(content)
        assert config.load().hash == first.hash
    (tmp_path / "a file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "a file"))
    assert config.load().hash == first.hash


def test_what_is_mapped_from_the_cache_is_private(files, empty_cache):
    config = SudokuConfig(source="csv", size=6, **files)
    expected = config.load().train.inputs.clone()
    first = config.load()
    first.train.inputs.zero_()
    assert torch.equal(config.load().train.inputs, expected)


def test_many_may_fill_the_cache_at_once(empty_cache):
    config = SudokuConfig(size=4, num_train=20, num_val=20, num_test=20)
    with ThreadPoolExecutor(4) as pool:
        hashes = set(pool.map(lambda _: config.load().hash, range(8)))
    assert len(hashes) == 1
    assert sorted(path.suffix for path in empty_cache.iterdir()) == [".lock", ".pt"]


def test_the_hub_is_asked_for_both_files(files, monkeypatch):
    package = Path(trm.data.sudoku.__file__).parent
    asked = []

    def download(repo, name, repo_type, local_files_only=False):
        asked.append((repo, name, repo_type))
        return str(package / f"generated_hard_{name}.gz")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    splits = load_splits(SudokuConfig(source="hub", repo="owner/name", num_train=100, num_val=50))
    assert [len(part) for part in splits.parts.values()] == [100, 50, 1000]
    assert set(asked) == {("owner/name", "train.csv", "dataset"), ("owner/name", "test.csv", "dataset")}


def test_an_unreachable_hub_is_one_message(monkeypatch):
    def fail(*args, **kwargs):
        raise OSError("no\nroute")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(
        DataError, match=r"^data: repo 'owner/name': train.csv .*OSError: no route.*source: csv"
    ):
        SudokuConfig(source="hub", repo="owner/name").check()
