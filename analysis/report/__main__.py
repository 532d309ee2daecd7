"""python -m analysis.report DIR/NAME: write a sweep's report.html and report/ anew."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis.report.build import write_report
from analysis.report.export import FOLDER
from analysis.sweep import AnalysisError


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m analysis.report", description=__doc__)
    parser.add_argument("folder", type=Path, help="a sweep's results, such as results/smoke")
    try:
        page_ = write_report(parser.parse_args(arguments).folder)
    except (AnalysisError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{page_}; figures and tables for a paper: {page_.parent / FOLDER}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
