"""Mixers that read in a direction and have an inner width of their own, in heads."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from trm.grid import Layout
from trm.mixers.base import KEY
from trm.mixers.order import first_equal_order
from trm.mixers.scans import ScanConfig


class InnerConfig(ScanConfig):
    """E = `expand` x hidden_size inner channels."""

    expand: float = Field(1.25, gt=0.0)

    def d_inner(self, hidden_size: int) -> int:
        return round(self.expand * hidden_size)

    def check(self, hidden_size: int, key: str = KEY) -> None:
        channels = self.expand * hidden_size
        if abs(channels - round(channels)) > 0.01 or round(channels) < 1:
            raise ValueError(
                f"{key}.expand x model.hidden_size must be a whole number of channels, but "
                f"{self.expand} x {hidden_size} = {channels:g}: give an expand such as "
                f"{max(1, round(channels)) / hidden_size:.6g} or another hidden_size"
            )

    def check_rank(self, field: str, channels: int, key: str) -> None:
        """Raise ValueError if the field's rank exceeds the channels of its map."""
        rank = getattr(self, field)
        if rank is not None and rank > channels:
            raise ValueError(
                f"{key}.{field} is {rank}, but a map of {channels} channels has no larger rank than that: "
                f"give 1 to {channels}"
            )

    def check_divides(self, field: str, number: int, hidden_size: int, key: str) -> None:
        """Raise ValueError if the field's value does not divide `number`, the inner channels."""
        value = getattr(self, field)
        if number % value:
            raise ValueError(
                f"{key}.{field} is {value}, which does not divide the {number} channels "
                f"(expand {self.expand:g} x model.hidden_size {hidden_size}): give one of {divisors(number)}"
                f"{_expand_that_fits(value, number, hidden_size)}"
            )

    def effective_at(self, scan_index: int, hidden_size: int, layout: Layout) -> dict[str, Any]:
        fields = super().effective_at(scan_index, hidden_size, layout)
        del fields["expand"]
        return fields | {"d_inner": self.d_inner(hidden_size)}

    def order_of_heads(self, heads: int, layout: Layout) -> list[str]:
        """For mixers whose heads are not interchangeable, as they start with values of their own."""
        return [
            first_equal_order(order, layout)
            for order in self.orders
            for _ in range(heads // len(self.orders))
        ]


def divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)


def _expand_that_fits(value: int, number: int, hidden_size: int) -> str:
    """As text, nearest to the `expand` that gives `number` channels, one with which `value` divides them."""
    fits = [n for n in range(value, 2 * number, value) if round(n / hidden_size, 3) * hidden_size == n]
    if not fits:
        return ""
    return f", or expand {min(fits, key=lambda n: abs(n - number)) / hidden_size:g}"
