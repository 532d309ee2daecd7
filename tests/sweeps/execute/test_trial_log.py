"""A trial's log: what gets into it, its size, and what the driver reads of it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sweeps.execute.trial_log import TrialLog, crash_in, last_lines, last_words, read_attempt
from tests.conftest import ROOT


def run_in(log: TrialLog, code: str) -> None:
    with log.capturing():
        exec(code, {})


def test_all_output_of_the_process_is_in_it(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "logs" / "a.log"
    log = TrialLog(path, 1)
    run_in(log, "from tests.sweeps.execute import unruly_trainer; unruly_trainer._prints()")
    text = path.read_text()
    for words in ("Python, to stdout", "Python, to stderr", "C, to stdout", "a child"):
        assert text.count(f"from {words}\n") == 1
    print("afterwards")
    assert capfd.readouterr() == ("afterwards\n", "")  # nothing has disturbed the terminal
    assert "afterwards" not in path.read_text()


@pytest.mark.parametrize(
    ("act", "words"), [("_prints_and_dies", "the last words"), ("_sigsegv", "Segmentation")]
)
def test_a_crash_loses_nothing(tmp_path: Path, act: str, words: str) -> None:
    path = tmp_path / "a.log"
    code = (
        "import faulthandler; from pathlib import Path; from sweeps.execute.trial_log import TrialLog\n"
        "from tests.sweeps.execute.unruly_trainer import _prints_and_dies\n"
        "_sigsegv = faulthandler._sigsegv; faulthandler.enable(2)\n"
        f"with TrialLog(Path({str(path)!r}), 1).capturing(): {act}()"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode != 0
    assert words in path.read_text()


def test_it_stays_small_by_dropping_the_oldest_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    log = TrialLog(path, 1, max_bytes=10_000)
    for number in range(3000):
        log.write(f"line {number}\n")
        log.trim()
        assert path.stat().st_size < 11_000
    header, mark, *lines = path.read_text().splitlines()
    assert header.startswith("==== attempt 1, ") and "dropped" in mark
    assert lines == [f"line {number}" for number in range(3000 - len(lines), 3000)]
    assert len(lines) > 400
    assert log.last_lines().splitlines() == lines[-20:]


def test_each_attempt_has_a_header_and_is_read_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for attempt in (1, 2):
        log = TrialLog(path, attempt)
        log.write(f"words of {attempt}\n")
        assert log.last_lines() == f"words of {attempt}"
        log.close()
    assert read_attempt(path, 2) == "words of 2\n"
    assert read_attempt(path, 3) == ""  # it ran on a machine with a disk of its own
    assert read_attempt(tmp_path / "none.log", 1) == ""


def test_the_end_of_a_log_is_short() -> None:
    assert last_lines("a\n" * 100) == "\n".join("a" * 20)
    assert len(last_lines("a" * 10_000)) == 4000


def test_of_a_crash_the_latest_calls_are_told_and_what_came_before() -> None:
    error = "Fatal Python error: Segmentation fault"
    stack = "\n".join(f'  File "{number}.py"' for number in range(100))
    text = f"Timeout (s): 3\nbefore\n{error}\n\nCurrent thread 0x1:\n{stack}\nExtension modules: {'x' * 9999}"
    assert crash_in(text) == error
    assert last_words(text).startswith(f"Timeout (s): 3\nbefore\n{error}\n")
    assert '"0.py"' in last_words(text) and len(last_words(text)) <= 4000
    assert (crash_in("Timeout (0:00:07)!\n"), crash_in("Timeout (s): 3\n")) == ("Timeout (0:00:07)!", "")
    assert last_words("no crash\n") == "no crash"


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    log = TrialLog(tmp_path / "file" / "a.log", 1)  # not a folder
    run_in(log, "print('told all the same')")
    assert log.last_lines() == "told all the same"
    log.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_fails_no_trainer_that_prints(tmp_path: Path) -> None:
    log = TrialLog(tmp_path / "a.log", 1)
    os.dup2(os.open("/dev/full", os.O_WRONLY), log.descriptor)
    run_in(log, "import sys; print('lost'); print('lost', file=sys.stderr, flush=True)")


def test_what_is_written_while_the_log_is_trimmed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = TrialLog(tmp_path / "a.log", 1, max_bytes=1000)
    log.write("an old line\n" * 100)
    whole = os.pwrite

    def in_between(descriptor: int, data: bytes, offset: int) -> int:
        if offset == 0:
            log.write("in between\n")
        return whole(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", in_between)
    log.trim()
    assert (tmp_path / "a.log").read_text().endswith("an old line\nin between\n")
