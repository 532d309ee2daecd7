#!/usr/bin/env python
"""Launch a sweep: `python run_sweep.py search_spaces/smoke.yaml`. The same as `python -m sweeps run`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sweeps.__main__ import add_run_arguments, run


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="run_sweep.py", description=__doc__)
    add_run_arguments(parser)
    return run(parser.parse_args(arguments), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
