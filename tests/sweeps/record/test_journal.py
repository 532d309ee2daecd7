from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sweeps.record.journal import Journal, read_journal
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


def test_a_line_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    seen = []
    journal.listeners.append(lambda event: seen.append((event["event"], len(list(read_journal(path))))))
    journal.append("start")
    journal.append("end")
    assert seen == [("start", 1), ("end", 2)]
