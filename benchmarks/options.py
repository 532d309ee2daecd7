"""The options of the benchmarks that simulate sweeps."""

from __future__ import annotations

import argparse
from pathlib import Path


def parse(about: str | None, sweeps: str) -> argparse.Namespace:
    """--sweeps, --seed and --out; `sweeps` says what their number is of. Leaves with status 2 below one."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=about, formatter_class=raw)
    parser.add_argument("--sweeps", type=int, default=10_000, help=f"{sweeps} (default: 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="of all that is drawn (default: 0)")
    parser.add_argument("--out", type=Path, help="write the rows as JSON")
    given = parser.parse_args()
    if given.sweeps < 1:
        parser.exit(2, f"--sweeps is {given.sweeps}: give a number of 1 or more\n")
    return given
