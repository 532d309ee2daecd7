"""docs/mixers.md holds the table that the registry gives."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT
from trm.config import TrialConfig
from trm.mixers.__main__ import HIDDEN_SIZE, LAYOUT, table


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "mixers.md").read_text()
    assert page.endswith(f"\n\n{table()}"), (
        "docs/mixers.md is out of date: end it with the table that `python -m trm.mixers` prints"
    )


def test_the_command_prints_the_table():
    command = [sys.executable, "-m", "trm.mixers"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == table()


def test_sizes_are_of_the_published_recipe():
    config = TrialConfig()
    assert (config.model.hidden_size, config.layout) == (HIDDEN_SIZE, LAYOUT)
