"""python -m sweeps.tracking sync DIR/NAME: writes a sweep's whole journal to MLflow. It can be run at any
time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from sweeps.observe.mlflow_writer import sync


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m sweeps.tracking", description=__doc__)
    parser.add_argument("command", choices=["sync"])
    parser.add_argument("folder", type=Path, help="the sweep's folder, DIR/NAME")
    parser.add_argument("--tracking-uri", default="sqlite:///mlflow.db")
    options = parser.parse_args(arguments)
    try:
        sync(options.folder, options.tracking_uri)
    except Exception as error:  # each store raises its own kinds
        print(f"sync: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
