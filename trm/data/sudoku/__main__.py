"""python -m trm.data.sudoku: prepare, inspect, show and check Sudoku data."""

from __future__ import annotations

import sys
from functools import partial

from trm.data.boards import cli
from trm.data.sudoku.config import SudokuConfig

main = partial(cli.main, SudokuConfig)

if __name__ == "__main__":
    sys.exit(main())
