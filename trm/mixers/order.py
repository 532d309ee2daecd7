"""The order in which a state-space model scans the cells of a board.

    row      row by row, as in the input
    column   column by column
    box      box by box (the boxes row by row), and row by row within a box

Tokens before the board, the puzzle embedding's slots, stay first. A backward scan reverses the whole order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, get_args

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from trm.grid import Grid, Layout

Order = Literal["row", "column", "box"]


def token_order(order: Order, layout: Layout) -> list[int]:
    """The tokens' positions in scan order, (L,). Raises ValueError as `check_order` does."""
    check_order(order, layout.grid)
    if layout.grid is None:
        return list(range(layout.seq_len))
    rows, cols, box = layout.grid
    height, width = {"row": (1, cols), "column": (rows, 1), "box": box or (1, 1)}[order]
    first = layout.seq_len - rows * cols
    cells = [
        first + (top + r) * cols + left + c  # a row or a column is a box of one row or one column
        for top in range(0, rows, height)
        for left in range(0, cols, width)
        for r in range(height)
        for c in range(width)
    ]
    return [*range(first), *cells]


def first_equal_order(order: Order, layout: Layout) -> Order:
    """The first order with the same effect as `order`: on a board of one row, all equal `row`."""
    orders: tuple[Order, ...] = get_args(Order)
    return next(
        each for each in orders if each == order or token_order(each, layout) == token_order(order, layout)
    )


def check_order(order: Order, grid: Grid | None, key: str = "model.mixer") -> None:
    """Raise ValueError if the task's board has no such order; `key` is the mixer's key, for the message."""
    if order != "row" and grid is None:
        raise ValueError(
            f"{key}.order has '{order}', but the task's tokens are not the cells of a board: choose row"
        )
    if order == "box" and grid is not None and grid.box is None:
        raise ValueError(
            f"{key}.order has 'box', but the task's board, {grid.rows} x {grid.cols}, has no boxes: choose "
            f"row or column"
        )


class TokenOrder(nn.Module):
    """Applies a function to tokens in one order, and returns the result in the original order."""

    there: Tensor | None
    back: Tensor | None

    def __init__(self, order: Order, layout: Layout) -> None:
        super().__init__()
        steps = torch.tensor(token_order(order, layout))
        as_they_stand = order == "row"
        self.register_buffer("there", None if as_they_stand else steps, persistent=False)
        self.register_buffer("back", None if as_they_stand else steps.argsort(), persistent=False)

    def forward(
        self, function: Callable[..., Tensor], *tensors: Tensor, reverse: bool = False, **fixed: Any
    ) -> Shaped[Tensor, "B L ..."]:
        """function(*tensors, **fixed), with the tokens (axis 1) of all tensors in scan order.

        With `reverse` the scan runs from the last token to the first. The result has the original order.
        """
        y = function(*(self._gather(each, reverse) for each in tensors), **fixed)
        y = y.flip(1) if reverse else y
        return y if self.back is None else y.index_select(1, self.back)

    def _gather(self, x: Tensor, reverse: bool) -> Tensor:
        x = x if self.there is None else x.index_select(1, self.there)
        return x.flip(1) if reverse else x


def join(parts: list[Tensor]) -> Tensor:
    """Concatenate the channels of all groups."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
