"""Sweeps kept at a URL: what is there is enough to go on with, from any machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.record import alive as alive_file
from sweeps.record.storage import Storage, _slug
from sweeps.space.errors import SpecError
from tests.sweeps.record.conftest import there


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
