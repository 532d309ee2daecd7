"""What the mixers share that read the tokens one after the other: in which direction, and in which order.

Such a mixer lets a token depend only on those that it has read before. `direction` sets the readings:

    forward             one, from the first token to the last
    alternating         one, backward in every second mixer, at no extra cost; with two or more mixers in the
                        block every token depends on all tokens
    bidirectional_tied  two, one each way, averaged; they share all parameters
    bidirectional       the same, but each reading has its own parameters for what selects: what is kept, and
                        what is written (each mixer says which these are)

A mixer may have further ones (`trm.mixers.ssm`). `order` is the order of the board's cells in a reading
(`trm.mixers.order`). With several orders, each applies to an equal share of the heads, in this sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from trm.grid import Grid, Layout
from trm.mixers.base import KEY, MixerConfig
from trm.mixers.order import Order, TokenOrder, check_order, first_equal_order, join


class ScanConfig(MixerConfig):
    """The keys `direction` and `order`. A mixer with other directions declares its own `direction`."""

    direction: Literal["forward", "alternating", "bidirectional_tied", "bidirectional"] = "alternating"
    order: Order | Annotated[tuple[Order, ...], Field(min_length=1)] = "row"

    @property
    def orders(self) -> tuple[Order, ...]:
        return (self.order,) if isinstance(self.order, str) else self.order

    @property
    def selections(self) -> int:
        """Number of sets of the parameters that select."""
        return 2 if self.direction == "bidirectional" else 1

    def check_shares(self, number: int, what: str, by: str, key: str) -> None:
        """Raise ValueError if the orders cannot have equal shares of `number` heads or channels.

        `by` is the field that sets the number.
        """
        if number % len(self.orders):
            raise ValueError(
                f"{key}.order has {len(self.orders)} entries, which do not divide the {number} {what}: give "
                f"fewer, or another {by}, for a multiple of {len(self.orders)} {what}"
            )

    def check_grid(self, grid: Grid | None, key: str = KEY) -> None:
        for order in self.orders:
            check_order(order, grid, key)

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        # Heads and channels are interchangeable: only the share of each order has an effect.
        names = [first_equal_order(order, layout) for order in self.orders]
        shares = {name: names.count(name) / len(names) for name in sorted(names)}
        return super().effective_at(scan_index, hidden_size, layout) | {"order": shares}


class Scans(nn.Module):
    """Every reading of the tokens by a mixer with heads, each share of the heads in its order; their mean."""

    def __init__(self, config: ScanConfig, layout: Layout, scan_index: int) -> None:
        super().__init__()
        self.reversals = config.reversals(scan_index)
        self.token_orders = nn.ModuleList(TokenOrder(order, layout) for order in config.orders)

    def forward(
        self, scan: Callable[..., Tensor], *inputs: Tensor | Sequence[Tensor]
    ) -> Float[Tensor, "B L E"]:
        """The mean over the readings of scan(*shares, index=, group=), with the tokens as they are read.

        An input is (B, L, C), where C is a number of channels for each head, head after head; or there is
        one such tensor for each set of the parameters that select, for the readings in turn. `scan` gets the
        share of the heads that group `group` has, and returns (B, L, E / groups); `index` is the reading.
        """
        readings = self.readings(scan, *inputs)
        return readings[0] if len(readings) == 1 else (readings[0] + readings[1]) / 2

    def readings(self, scan: Callable[..., Tensor], *inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
        """What `forward` takes the mean of."""
        return [
            self.in_order(
                scan,
                *(each if isinstance(each, Tensor) else each[index % len(each)] for each in inputs),
                reverse=reverse,
                index=index,
            )
            for index, reverse in enumerate(self.reversals)
        ]

    def in_order(
        self, function: Callable[..., Tensor], *inputs: Tensor, reverse: bool = False, **fixed: Any
    ) -> Tensor:
        """function(*shares, group=, **fixed) of each group of heads, with the tokens in the group's order."""
        groups = len(self.token_orders)
        shares = zip(*(each.chunk(groups, dim=-1) for each in inputs), strict=True)
        return join(
            [
                token_order(function, *share, reverse=reverse, group=group, **fixed)
                for group, (token_order, share) in enumerate(zip(self.token_orders, shares, strict=True))
            ]
        )

    def for_every_group(self, x: Tensor) -> Tensor:
        """An input of `forward` that every group of heads gets whole, as its channels belong to no head."""
        groups = len(self.token_orders)
        return x if groups == 1 else x.repeat(1, 1, groups)
