"""A solver for batches of boards: bit masks of candidates, naked and hidden singles, then branching."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trm.data.boards.rules import Boards
from trm.data.sudoku.board import BOX_SHAPES

Candidates = NDArray[np.uint16]  # (n, n, nodes): bit d-1 is set if digit d is still possible

_WIDTH = 2048  # nodes processed at a time
_POPCOUNT = np.array([bits.bit_count() for bits in range(2**9)], np.uint8)


def solve(boards: Boards, size: int, limit: int = 2) -> tuple[NDArray[np.int64], Boards]:
    """The number of solutions of each board, up to `limit`, and one of them.

    Returns counts (B,) and solutions (B, n*n), which are all 0 for a board without a solution.
    """
    counts = np.zeros(len(boards), np.int64)
    solutions = np.zeros_like(boards)
    owners = np.arange(len(boards))
    # A stack with the deepest nodes on top: memory grows with the depth, not with the size of the tree.
    stack = [(candidates_of(boards[part], size), part) for part in _parts(owners)[::-1]]
    while stack:
        nodes, owner = _pop(stack)
        live = counts[owner] < limit
        if not live.all():
            nodes, owner = nodes[:, :, live], owner[live]
        nodes, changed, dead, solved = propagate(nodes, size)
        if solved.any():
            done = owner[solved]
            np.add.at(counts, done, 1)
            solutions[done] = digits_of(nodes[:, :, solved])
        if changed.any():
            stack.append((nodes[:, :, changed], owner[changed]))
        stuck = ~(changed | dead | solved)
        if stuck.any():
            stack.extend((child, owner[stuck]) for child in _branch(nodes[:, :, stuck]))
    return np.minimum(counts, limit), solutions


def solved_by_singles(boards: Boards, size: int) -> NDArray[np.bool_]:
    """(B,): whether naked and hidden singles alone solve the board; its solution is then unique."""
    result = np.zeros(len(boards), bool)
    for part in _parts(np.arange(len(boards))):
        nodes, owner = candidates_of(boards[part], size), part
        while len(owner):
            nodes, changed, _, solved = propagate(nodes, size)
            result[owner[solved]] = True
            nodes, owner = nodes[:, :, changed], owner[changed]
    return result


def candidates_of(boards: Boards, size: int) -> Candidates:
    """Candidates of boards (B, n*n): one bit for a clue, all bits for a blank."""
    bits = np.array([2**size - 1] + [2**digit for digit in range(size)], np.uint16)
    return np.ascontiguousarray(bits[boards].T).reshape(size, size, -1)


def digits_of(nodes: Candidates) -> Boards:
    """The boards (nodes, n*n) of solved candidates."""
    _, exponents = np.frexp(nodes.astype(np.float32))
    return exponents.reshape(-1, nodes.shape[2]).T.astype(np.uint8)


def propagate(
    nodes: Candidates, size: int
) -> tuple[Candidates, NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """One pass of naked and hidden singles over rows, columns and boxes.

    Returns the new candidates and three masks (nodes,), at most one of which is true for a node: changed (and
    not dead), dead (a contradiction), solved.
    """
    full = np.uint16(2**size - 1)
    before = nodes
    nodes = nodes.copy()
    dead = np.zeros(nodes.shape[2], bool)
    for cells in _unit_cells(nodes, size):
        once = np.zeros_like(cells[0])  # candidates that occur in the unit
        twice = np.zeros_like(once)
        known = np.zeros_like(once)  # digits of the unit's solved cells
        clash = np.zeros_like(once)
        singles = []
        for cell in cells:
            twice |= once & cell
            once |= cell
            single = np.where(cell & (cell - 1), 0, cell)
            clash |= known & single
            known |= single
            singles.append(single)
        dead |= ((once != full) | (clash != 0)).reshape(size, -1).any(axis=0)
        hidden = once & ~twice
        for cell, single in zip(cells, singles, strict=True):
            only = cell & hidden
            np.copyto(cell, np.where(only, only, cell & ~(known ^ single)))
    flat = nodes.reshape(size * size, -1)
    dead |= (flat == 0).any(axis=0)
    changed = (flat != before.reshape(flat.shape)).any(axis=0)
    open_cells = (flat & (flat - 1)).any(axis=0)
    # A pass that changed something may have put one digit twice in a unit: only an unchanged node is solved.
    return nodes, changed & ~dead, dead, ~(changed | dead | open_cells)


def _unit_cells(nodes: Candidates, size: int) -> list[list[Candidates]]:
    """For rows, columns and boxes: n views (units, nodes) of the units' first cells, second cells, ...

    For boxes the views are (bands, stacks, nodes).
    """
    box_rows, box_cols = BOX_SHAPES[size]
    boxed = nodes.reshape(size // box_rows, box_rows, size // box_cols, box_cols, -1)
    rows = [nodes[:, cell] for cell in range(size)]
    cols = [nodes[cell] for cell in range(size)]
    boxes = [boxed[:, row, :, col] for row in range(box_rows) for col in range(box_cols)]
    return [rows, cols, boxes]


def _branch(nodes: Candidates) -> tuple[Candidates, Candidates]:
    """Two children of each node: its cell with the fewest candidates without the lowest, or only that."""
    flat = nodes.reshape(-1, nodes.shape[2])
    choices = _POPCOUNT[flat]
    cell = np.where(choices > 1, choices, 99).argmin(axis=0)
    each = np.arange(flat.shape[1])
    first = flat[cell, each]
    lowest = first & (~first + np.uint16(1))
    guess, rest = flat.copy(), flat.copy()
    guess[cell, each] = lowest
    rest[cell, each] = first & ~lowest
    return rest.reshape(nodes.shape), guess.reshape(nodes.shape)


def _parts(owners: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return [owners[i : i + _WIDTH] for i in range(0, len(owners), _WIDTH)]


def _pop(stack: list[tuple[Candidates, NDArray[np.int64]]]) -> tuple[Candidates, NDArray[np.int64]]:
    """About _WIDTH nodes from the top of the stack: numpy is slow on a few nodes at a time."""
    taken = [stack.pop()]
    while stack and sum(len(owner) for _, owner in taken) + len(stack[-1][1]) <= _WIDTH:
        taken.append(stack.pop())
    if len(taken) == 1:
        return taken[0]
    taken.reverse()
    return np.concatenate([n for n, _ in taken], axis=2), np.concatenate([o for _, o in taken])
