"""The page of all trials: one file with its data, and a script that a browser can read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from analysis.report import page
from analysis.report.explore import NUMBERS, content, explore
from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    arms = {"a</script>": Fake(0.5), "b": Fake(0.7, stop=0.25), "c": Fake(0.6, statuses={1: "diverged"})}
    return load_sweep(write_sweep(tmp_path / "s", arms, tune={"lr": [0.1]}))


def test_the_page_holds_every_trial_and_needs_no_network(sweep: Sweep) -> None:
    text = explore(sweep)
    assert not re.search(r"""(src|href)=["'](?!\.\./report)|https?://(?!www\.w3\.org)""", text)
    data = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert [trial["id"] for trial in data["trials"]] == list(sweep.trials["trial_id"])
    assert {arm["name"] for arm in data["arms"]} == set(sweep.arms)
    first, unit = data["trials"][0], sweep.unit(OBJECTIVE)
    assert first["value"] == pytest.approx(unit.factor * sweep.trials[OBJECTIVE][0], rel=1e-3)
    assert first["tuned"] == [0.1] and len(first["curves"][OBJECTIVE]) == 20
    assert [each["name"] for each in data["metrics"]][:2] == [OBJECTIVE, "val/cell_accuracy"]
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert tags.count("script") == 2  # the name of an arm ended none


def test_a_long_history_is_thinned_to_what_a_page_can_hold(sweep: Sweep, monkeypatch) -> None:
    full = len(content(sweep)["trials"][0]["curves"]["samples"])
    monkeypatch.setattr("analysis.report.explore.NUMBERS", 200)
    found = content(sweep)["trials"][0]["curves"]["samples"]
    assert NUMBERS == 120_000 and len(found) < full / 2 and found[-1] == sweep.history["samples"][19]


@pytest.mark.skipif(shutil.which("node") is None, reason="needs node")
def test_a_javascript_engine_reads_the_script() -> None:
    subprocess.run(["node", "--check", page.HERE / "explore.js"], check=True, timeout=60)
