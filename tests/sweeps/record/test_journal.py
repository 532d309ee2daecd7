from __future__ import annotations

import errno
import json
import math
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.record.journal import SYNC_S, Journal, read_journal
from sweeps.space.encoding import encode


def test_events_come_back_in_order(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    for step in range(5):
        journal.append("report", trial_id="a", step=step, loss=step / 3)
    journal.close()
    events = list(read_journal(tmp_path / "j.jsonl"))
    assert [event["step"] for event in events] == list(range(5))
    assert [event["loss"] for event in events] == [step / 3 for step in range(5)]
    assert all(event["time"] > 0 for event in events)


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_every_float_survives_strict_json(value: float) -> None:
    text = json.dumps(encode({"x": [value]}), allow_nan=False)
    back = float(json.loads(text)["x"][0])
    assert back == value or (math.isnan(back) and math.isnan(value))


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_torn_last_line_is_passed_over_and_then_mended(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append("start", trial_id="a")
    whole = path.stat().st_size
    journal.append("report", trial_id="a", step=1)
    journal.close()
    path.write_bytes(path.read_bytes()[: whole + min(cut, path.stat().st_size - whole - 2)])
    assert [event["event"] for event in read_journal(path)] == ["start"]
    again = Journal(path)
    again.append("report", trial_id="a", step=2)
    again.close()
    assert [event["event"] for event in read_journal(path)] == ["start", "report"]


def test_a_broken_line_in_the_middle_is_an_error_that_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"event":"start"}\n{"event":\n{"event":"end"}\n')
    with pytest.raises(ValueError, match=r"line 2"):
        list(read_journal(path))


def test_the_events_of_one_name_are_read_alone(tmp_path: Path) -> None:
    """Not those that only mention it; and no other line is parsed."""
    path = tmp_path / "j.jsonl"
    path.write_text(
        '{"event":"start"}\n{"event":"warning","text":"start"}\nbroken\n{"event":"start","n":2}\n'
    )
    assert list(read_journal(path, "start")) == [{"event": "start"}, {"event": "start", "n": 2}]
    path.write_text('{"event":"end"}\n{"event":"start"\n')
    with pytest.raises(ValueError, match=r"line 2"):
        list(read_journal(path, "start"))


def test_a_line_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    seen = []
    journal.listeners.append(lambda event: seen.append((event["event"], len(list(read_journal(path))))))
    journal.append("start")
    journal.append("end")
    assert seen == [("start", 1), ("end", 2)]


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of lines in the journal at each sync, in a time that stands still."""
    found: list[int] = []
    monkeypatch.setattr(
        os, "fdatasync", lambda _: found.append(len(list(read_journal(tmp_path / "j.jsonl"))))
    )
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    return found


def test_what_has_an_effect_is_synced_with_all_before_it(tmp_path: Path, synced: list[int]) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append("start", trial_id="a")
    for _ in range(3):
        journal.append("report", trial_id="a", step=1)
        journal.append("decision", trial_id="a", action="continue")
    assert synced == [1]
    journal.append("decision", trial_id="a", action="stop")
    assert synced == [1, 8]
    journal.append("end", trial_id="a")
    journal.append("report", trial_id="b", step=1)
    assert synced == [1, 8, 9]
    journal.close()
    assert synced == [1, 8, 9, 10]


def test_reports_are_synced_after_a_while(
    tmp_path: Path, synced: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append("start", trial_id="a")
    journal.append("report", trial_id="a", step=1)
    monkeypatch.setattr(time, "monotonic", lambda: 100.0 + 2 * SYNC_S)
    journal.append("report", trial_id="a", step=2)
    assert synced == [1, 3]


def test_a_sync_that_fails_takes_back_what_may_not_be_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = Journal(tmp_path / "j.jsonl")
    journal.append("start", trial_id="a")
    monkeypatch.setattr(time, "monotonic", lambda: -math.inf)
    journal.append("report", trial_id="a", step=1)

    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            journal.append("end", trial_id="a")
    journal.append("finish")
    assert [event["event"] for event in read_journal(tmp_path / "j.jsonl")] == ["start", "finish"]


@pytest.mark.parametrize("size", [10, 70_000, 200_000])
def test_a_long_torn_line_is_removed(tmp_path: Path, size: int) -> None:
    path = tmp_path / "j.jsonl"
    for whole in (b"", b'{"event":"start"}\n'):
        path.write_bytes(whole + b"x" * size)
        Journal(path).close()
        assert path.read_bytes() == whole
