"""Every place behaves like a disk for a trial's checkpoints."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest

from sweeps.record.checkpoints import CheckpointStore
from sweeps.record.disk import DiskBudget
from sweeps.record.remote_checkpoints import RemoteCheckpoints, UploadFailed, checkpoint_store
from sweeps.record.storage import Storage
from tests.sweeps.record.conftest import there
from tests.sweeps.record.test_disk import KB, end, trial
from tests.sweeps.spaces import toy_plan


def commit(store: CheckpointStore, folder: Path, step: int, value: float, weights: str = "") -> None:
    source = folder / "source" / "inner"
    source.mkdir(parents=True, exist_ok=True)
    (source / "weights").write_text(weights or str(step))
    store.commit(source.parent, [{"step": step, "acc": value}])


def test_the_last_and_the_best_are_kept_and_another_machine_goes_on_from_them(
    place: str, tmp_path: Path
) -> None:
    store = checkpoint_store(f"{place}/t", "acc", "max")
    assert store.latest() is None
    for step, value in enumerate([0.1, 0.9, 0.3, 0.2], start=1):
        commit(store, tmp_path, step, value)
    assert there(f"{place}/t") == ["step_000000002", "step_000000004"]
    again = checkpoint_store(f"{place}/t", "acc", "max")
    path, (metrics,) = again.latest() or (None, [None])
    assert path is not None and (path / "inner" / "weights").read_text() == "4"
    assert metrics == {"step": 4, "acc": 0.2}
    commit(again, tmp_path, 5, 0.95)
    assert there(f"{place}/t") == ["step_000000005"]


def test_what_only_resuming_needs_is_there_for_the_last_alone(place: str, tmp_path: Path) -> None:
    def save(folder: Path) -> None:
        (folder / "resume").mkdir()
        for name in ("weights", "resume/carry"):
            (folder / name).write_text("x")

    store = checkpoint_store(f"{place}/t", "acc", "max")
    for step, value in ((1, 0.9), (2, 0.1)):
        store.commit(save, [{"step": step, "acc": value}])
    fs, path = fsspec.core.url_to_fs(f"{place}/t")
    fs.invalidate_cache()
    files = sorted(file.partition("/t/step_00000000")[2] for file in fs.find(path))
    assert files == ["1/.sweep.json", "1/weights", "2/.sweep.json", "2/resume/carry", "2/weights"]
    assert not fs.exists(f"{path}/step_000000001/resume")
    fs.rm_file(f"{path}/step_000000002/weights")
    assert checkpoint_store(f"{place}/t", "acc", "max").latest() is None


def test_what_only_resuming_needs_stays_until_the_next_one_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"bucket://{tmp_path}/there/t"
    store = checkpoint_store(url, "acc", "max")

    def save(folder: Path) -> None:
        (folder / "resume").mkdir()
        (folder / "resume" / "carry").write_text("x")

    def fails(*paths: str) -> None:
        raise ConnectionError("reset by peer")

    store.commit(save, [{"step": 1, "acc": 0.9}])
    with monkeypatch.context() as context:
        context.setattr(type(store._fs), "put_file", fails)
        with pytest.raises(UploadFailed, match="reset by peer"):
            store.commit(save, [{"step": 2, "acc": 0.1}])
    found = checkpoint_store(url, "acc", "max")  # its files are there as long as it is
    assert found.latest()[0].name == "step_000000001"


@pytest.mark.parametrize("damage", [".sweep.json", "inner/weights"])
def test_what_is_not_whole_gives_way_to_the_one_before(place: str, tmp_path: Path, damage: str) -> None:
    store = checkpoint_store(f"{place}/t", "acc", "max")
    commit(store, tmp_path, 1, 0.9)
    commit(store, tmp_path, 2, 0.1)
    fs, path = fsspec.core.url_to_fs(f"{place}/t/step_000000002/{damage}")
    fs.rm_file(path)
    found = checkpoint_store(f"{place}/t", "acc", "max").latest()
    assert found is not None and found[1][-1]["step"] == 1


def test_a_step_that_comes_again_replaces_the_first(place: str, tmp_path: Path) -> None:
    commit(checkpoint_store(f"{place}/t", "acc", "max"), tmp_path, 1, 0.5, "old")
    commit(checkpoint_store(f"{place}/t", "acc", "max"), tmp_path, 1, 0.6, "new")
    again = checkpoint_store(f"{place}/t", "acc", "max")  # its files are there as long as it is
    found = again.latest()
    assert found is not None and (found[0] / "inner" / "weights").read_text() == "new"


def test_the_byte_budget_holds_there_too(place: str, tmp_path: Path) -> None:
    from sweeps.record.state import SweepState

    state = SweepState()
    budget = DiskBudget(place, toy_plan(tmp_path, max_checkpoint_gb=1.5 * KB / 1e9).spec, state)
    for name, value in (("good", 0.9), ("bad", 0.1), ("best", 0.95)):
        trial(state, name, value)
        commit(checkpoint_store(f"{place}/{name}", "acc", "max"), tmp_path, 1, value, "x" * KB)
        end(state, budget, name)
    assert there(place) == ["best"]  # each has its report beside it, and two are too much


def test_a_checkpoint_that_cannot_be_sent_is_known_as_such(tmp_path: Path) -> None:
    store = checkpoint_store(f"bucket://{tmp_path}/there/t", "acc", "max")
    commit(store, tmp_path, 1, 0.5)
    (tmp_path / "there").rename(tmp_path / "gone")
    (tmp_path / "there").write_text("a file is in the way")
    with pytest.raises(UploadFailed):
        commit(store, tmp_path, 2, 0.6)


def test_a_folder_is_written_to_directly(tmp_path: Path) -> None:
    location = Storage(str(tmp_path / "results")).checkpoints("toy")
    assert not isinstance(checkpoint_store(location, "acc", "max"), RemoteCheckpoints)
