"""python -m trm.data.maze: prepare, inspect, show and check mazes."""

from __future__ import annotations

import sys
from functools import partial

from trm.data.boards import cli
from trm.data.maze.config import MazeConfig

main = partial(cli.main, MazeConfig)

if __name__ == "__main__":
    sys.exit(main())
