"""Sweeps kept at a URL: what is there is enough to go on with, from any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from sweeps.record import alive as alive_file
from sweeps.record.checkpoints import CheckpointStore, UploadFailed
from sweeps.record.disk import DiskBudget
from sweeps.record.storage import RemoteCheckpoints, Storage, _slug, checkpoint_store
from sweeps.space.errors import SpecError
from tests.sweeps.record.test_disk import KB, end, trial
from tests.sweeps.spaces import toy_plan


@pytest.fixture(params=["folder", "bucket", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path / "sweeps")
    elif request.param == "bucket":
        yield f"bucket://{tmp_path}/sweeps"
    else:
        url = f"memory://{uuid.uuid4().hex}"
        yield url
        fs, path = fsspec.core.url_to_fs(url)
        if fs.exists(path):
            fs.rm(path, recursive=True)


def commit(store: CheckpointStore, folder: Path, step: int, value: float, weights: str = "") -> None:
    source = folder / "source" / "inner"
    source.mkdir(parents=True, exist_ok=True)
    (source / "weights").write_text(weights or str(step))
    store.commit(source.parent, [{"step": step, "acc": value}])


def there(place: str) -> list[str]:
    fs, path = fsspec.core.url_to_fs(place)
    fs.invalidate_cache()
    return sorted(name.rstrip("/").rpartition("/")[2] for name in fs.ls(path, detail=False))


# Every place behaves like a disk.


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


# The sweep's own folder.


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_a_url_of_a_folder_is_that_folder(tmp_path: Path, scheme: str) -> None:
    folder = tmp_path / "sweeps"
    storage = Storage(f"{scheme}://{folder}/")
    assert (storage.root, storage.location) == (folder, str(folder))
    assert storage.folder("toy") == folder / "toy"
    assert storage.checkpoints("toy") == Storage(folder).checkpoints("toy")
    assert Storage(f"{scheme}:///").location == "/" == str(Storage("/").root)
    with pytest.raises(SpecError, match="give a whole path"):
        Storage(f"{scheme}://localhost{folder}")


def test_a_sweep_goes_on_where_its_copy_is_gone(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "://" not in place:
        pytest.skip("a folder is no copy")
    monkeypatch.chdir(tmp_path)
    storage = Storage(place)
    folder = storage.folder("toy")
    assert not folder.exists()
    folder.mkdir(parents=True)
    (folder / "logs").mkdir()
    with storage.uploading("toy"):
        (folder / "sweep.yaml").write_text("name: toy\n")
        (folder / "journal.jsonl").write_text("1\n2\n")
        (folder / "logs" / "driver.log").write_text("log")
    assert there(f"{place}/toy") == ["journal.jsonl", "logs", "sweep.yaml"]

    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = Storage(place).folder("toy")
    assert (found / "journal.jsonl").read_text() == "1\n2\n"
    (found / "journal.jsonl").write_text("1\n2\n3\n")  # the longer one counts
    assert (Storage(place).folder("toy") / "journal.jsonl").read_text() == "1\n2\n3\n"


def test_the_journal_is_sent_while_the_sweep_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sweeps.record.storage as module

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "UPLOAD_S", 0.05)
    storage = Storage(f"bucket://{tmp_path}/there")
    folder = storage.folder("toy")
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text("name: toy\n")
    sent = tmp_path / "there" / "toy" / "journal.jsonl"
    with storage.uploading("toy"):
        (folder / "journal.jsonl").write_text("1\n")
        for _ in range(100):
            if sent.exists() and sent.read_text() == "1\n":
                break
            module.threading.Event().wait(0.05)
        assert sent.read_text() == "1\n"


def test_a_launch_says_that_it_runs_until_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sweeps.record.storage as module

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "UPLOAD_S", 0.02)
    storage, _ = begun(tmp_path)
    alive = tmp_path / "there" / "toy" / alive_file.FILE
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    elsewhere = Storage(f"bucket://{tmp_path}/there")
    assert not elsewhere.runs_elsewhere("toy")
    monkeypatch.chdir(tmp_path)
    with storage.uploading("toy"):
        first = alive.read_text()
        assert not storage.runs_elsewhere("toy")  # its lock is here
        monkeypatch.chdir(tmp_path / "elsewhere")
        assert elsewhere.runs_elsewhere("toy")
        monkeypatch.chdir(tmp_path)
        for _ in range(200):
            if alive.read_text() not in ("", first):
                break
            module.threading.Event().wait(0.02)
        assert alive.read_text() != first
    assert not alive.exists() and not elsewhere.runs_elsewhere("toy")


def test_a_launch_whose_process_is_gone_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On its own machine; of another one only its silence tells."""
    monkeypatch.chdir(tmp_path)
    storage, _ = begun(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", ""])
    (tmp_path / "there" / "toy").mkdir(parents=True)

    def runs(pid: int, **machine: str) -> bool:
        alive = json.loads(alive_file.content(tmp_path / "other")) | {"pid": pid} | machine
        (tmp_path / "there" / "toy" / alive_file.FILE).write_text(json.dumps(alive))
        return bool(storage.runs_elsewhere("toy"))

    assert runs(os.getpid()) and runs(process.pid, machine="another of the same name")
    process.wait()
    assert runs(process.pid, machine="another of the same name") and not runs(process.pid)


def begun(tmp_path: Path) -> tuple[Storage, Path]:
    """A storage, and the copy of a sweep that has begun there."""
    storage = Storage(f"bucket://{tmp_path}/there")
    folder = storage.folder("toy")
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text("name: toy\n")
    return storage, folder


def test_a_sweep_that_went_on_in_two_places_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    storage, folder = begun(tmp_path)
    (folder / "journal.jsonl").write_text("1\n")
    assert storage.send("toy") == ""
    (folder / "journal.jsonl").write_text("1\n2 here\n3\n")
    (tmp_path / "there" / "toy" / "journal.jsonl").write_text("1\n2 there\n")
    with pytest.raises(SpecError, match="was continued both there and in the local copy"):
        storage.folder("toy")
    assert (folder / "journal.jsonl").read_text() == "1\n2 here\n3\n"


def test_what_cannot_be_sent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    storage, _ = begun(tmp_path)
    (tmp_path / "there").write_text("a file is in the way")
    assert "sweep.yaml could not be uploaded" in storage.send("toy")


def test_a_checkpoint_that_cannot_be_sent_is_known_as_such(tmp_path: Path) -> None:
    store = checkpoint_store(f"bucket://{tmp_path}/there/t", "acc", "max")
    commit(store, tmp_path, 1, 0.5)
    (tmp_path / "there").rename(tmp_path / "gone")
    (tmp_path / "there").write_text("a file is in the way")
    with pytest.raises(UploadFailed):
        commit(store, tmp_path, 2, 0.6)


def test_copies_of_other_urls_are_other_folders_and_show_no_password() -> None:
    one, other = (Storage(f"memory://bucket/{name}").root for name in ("a-b", "a_b"))
    assert one != other
    assert "S3cret" not in _slug("sftp://me:S3cret@host/sweeps") and "host" in _slug(
        "sftp://me:S3cret@host/sweeps"
    )


@pytest.mark.parametrize("place", ["s4://bucket", "s3://bucket/without-its-package"])
def test_a_place_that_cannot_be_reached_is_refused(place: str) -> None:
    with pytest.raises(SpecError, match=r"--storage s\d://"):
        Storage(place)


def test_a_folder_stays_what_it_is(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path / "results"))
    assert storage.folder("toy") == tmp_path / "results" / "toy"
    assert storage.checkpoints("toy") == f"{tmp_path}/results/toy/checkpoints"
    assert not isinstance(checkpoint_store(storage.checkpoints("toy"), "acc", "max"), RemoteCheckpoints)
