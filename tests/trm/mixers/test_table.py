"""docs/mixers.md holds the table that the registry gives."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.conftest import ROOT
from tests.trm.mixers.conformance import build, small, small_configs
from trm.config import TrialConfig
from trm.mixers import MIXERS
from trm.mixers.__main__ import HIDDEN_SIZE, LAYOUT, table
from trm.mixers.hybrids import ParallelConfig


def test_the_page_is_up_to_date():
    page = (ROOT / "docs" / "mixers.md").read_text()
    assert page.endswith(f"\n\n{table()}"), (
        "docs/mixers.md is out of date: end it with the table that `python -m trm.mixers` prints"
    )


def test_the_page_names_what_has_no_weight_decay():
    """Every such parameter of every mixer, and of `parallel`, by the last parts of its name."""
    page = (ROOT / "docs" / "mixers.md").read_text()
    [row] = [line for line in page.splitlines() if line.startswith("| weight decay |")]
    known = {"A_log": "`A_log`", "D": "`D`", "dt_bias": "`dt_bias`", "dt_proj.bias": "the bias of `dt_proj`"}
    known |= {"norm.weight": "(`norm.weight`", "o_norm.weight": "`o_norm.weight`)", "betas": "the `betas`"}
    of_mamba3 = ("B_norm", "C_norm", "B_bias", "C_bias")
    of_mlstm = ("norm_weight", "skip", "igate_bias", "fgate_bias")
    known |= {name: f"`{name}`" for name in (*of_mamba3, *of_mlstm)}
    small_ones = [config for config in small_configs().values() if config.kind != "rwkv7"]
    configs = [*small_ones, ParallelConfig(mixers=(small(MIXERS["mlp"]),) * 2)]
    found = set()
    for config in configs:
        for name, parameter in build(config).named_parameters():
            if getattr(parameter, "_no_weight_decay", False):
                last = name.rstrip(".0123456789")  # betas.0
                [said] = [each for each in known if f".{last}".endswith(f".{each}")]
                found.add(said)
    assert found == set(known) and all(text in row for text in known.values())


def fits(kind: str, width: int, keys: dict[str, float]) -> bool:
    config = MIXERS[kind](kind=kind, **keys)
    try:
        config.num_params(width, LAYOUT)
        config.check(width)
    except ValueError:
        return False
    return True


def test_the_page_says_which_widths_the_defaults_fit():
    page = (ROOT / "docs" / "mixers.md").read_text()
    found = page.partition("| mixer | the defaults fit multiples of |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| (\d+).* \| (.*) \|$", found, re.MULTILINE)
    widths = range(16, 1025, 16)
    said = {kind: int(multiple) for kind, multiple, _ in rows}
    for kind in MIXERS:
        multiple = said.get(kind, 16)
        assert {w for w in widths if fits(kind, w, {})} == {w for w in widths if w % multiple == 0}, kind
    for kind, _, others in rows:
        remedies = re.findall(r"`([^`]+)` at multiples of (\d+)", others)
        assert remedies and remedies[-1][1] == "16", kind
        for text, multiple in remedies:
            keys = {name: float(value) for name, value in re.findall(r"(\w+): ([\d.]+)", text)}
            assert all(fits(kind, w, keys) for w in widths if w % int(multiple) == 0), (kind, text)


def test_of_rwkv7_only_four_matrices_decay():
    named = build(small(MIXERS["rwkv7"])).named_parameters()
    decayed = {name for name, parameter in named if not getattr(parameter, "_no_weight_decay", False)}
    assert decayed == {f"{each}.weight" for each in ("receptance", "key", "value", "output")}


def test_the_command_prints_the_table():
    command = [sys.executable, "-m", "trm.mixers"]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout == table()


def test_sizes_are_of_the_published_recipe():
    config = TrialConfig()
    assert (config.model.hidden_size, config.layout) == (HIDDEN_SIZE, LAYOUT)
