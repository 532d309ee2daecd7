"""Mazes of any size and Maze-Hard: `python -m trm.data.maze --help` prepares and inspects them."""

from trm.data.maze.config import MazeConfig

__all__ = ["MazeConfig"]
