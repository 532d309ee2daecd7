"""Sudoku of 4x4, 6x6 and 9x9 cells: `python -m trm.data.sudoku --help` prepares and inspects it."""

from trm.data.sudoku.config import SudokuConfig

__all__ = ["SudokuConfig"]
