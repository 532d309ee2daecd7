"""Draws that are known before launch."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sweeps.plan.draws import known_draws
from sweeps.space.errors import SpecError
from sweeps.space.values import Domain

DOMAINS = {
    "lr": Domain(loguniform=(1e-4, 1e-2)),
    "decay": Domain(uniform=(0.0, 1.0)),
    "heads": Domain(int=(1, 8)),
    "width": Domain(logint=(1, 1024)),
    "kind": Domain(choice=["a", None, 3, [1, 2]]),
}

choices = st.lists(st.integers(), min_size=1, max_size=4, unique=True).map(lambda c: Domain(choice=c))
ranges = st.tuples(st.integers(-5, 5), st.integers(1, 4)).map(lambda r: Domain(int=(r[0], r[0] + r[1])))


@pytest.mark.parametrize("algorithm", ["sobol", "random"])
def test_draws_are_the_same_every_time_and_lie_within_their_domains(algorithm: str) -> None:
    drawn = known_draws(algorithm, DOMAINS, 32)
    assert drawn == known_draws(algorithm, DOMAINS, 32)
    assert len(drawn) == 32 and all(list(draw) == list(DOMAINS) for draw in drawn)
    for draw in drawn:
        assert 1e-4 <= draw["lr"] <= 1e-2 and 0 <= draw["decay"] <= 1
        assert draw["heads"] in range(1, 9) and draw["width"] in range(1, 1025)
        assert draw["kind"] in ["a", None, 3, [1, 2]]
    assert {type(draw["heads"]) for draw in drawn} == {int}


@pytest.mark.parametrize("algorithm", ["sobol", "random"])
def test_fewer_draws_are_the_first_of_more(algorithm: str) -> None:
    assert known_draws(algorithm, DOMAINS, 5) == known_draws(algorithm, DOMAINS, 16)[:5]


@settings(deadline=None, max_examples=20)
@given(st.floats(1e-6, 1.0), st.floats(1.5, 1e6), st.sampled_from([2, 4, 8, 16]))
def test_sobol_puts_one_draw_in_each_part_of_a_domain(low: float, ratio: float, number: int) -> None:
    domains = {"log": Domain(loguniform=(low, low * ratio)), "plain": Domain(uniform=(0.0, 1.0))}
    drawn = known_draws("sobol", domains, number)
    in_log = [math.log(draw["log"] / low) / math.log(ratio) for draw in drawn]
    for places in (in_log, [draw["plain"] for draw in drawn]):
        assert sorted(int(place * number) for place in places) == list(range(number))


def test_sobol_is_balanced_over_choices_too() -> None:
    drawn = [draw["kind"] for draw in known_draws("sobol", DOMAINS, 16)]
    assert [drawn.count(kind) for kind in ("a", None, 3, [1, 2])] == [4, 4, 4, 4]


@given(st.dictionaries(st.text("xyz", min_size=1), choices | ranges, min_size=1, max_size=3))
def test_a_grid_is_every_combination_once(domains: dict[str, Domain]) -> None:
    def values(domain: Domain) -> list[Any]:
        return domain.choice or list(range(int(domain.bounds[0]), int(domain.bounds[1]) + 1))

    grid = known_draws("grid", domains, 0)
    assert len({tuple(draw.values()) for draw in grid}) == len(grid)
    assert len(grid) == math.prod(len(values(domain)) for domain in domains.values())
    assert all(draw[name] in values(domain) for draw in grid for name, domain in domains.items())


@pytest.mark.parametrize("kind", ["uniform", "loguniform", "logint"])
def test_what_has_no_grid_is_refused_by_name(kind: str) -> None:
    with pytest.raises(SpecError, match=rf"tune\.lr: {kind} has no grid"):
        known_draws("grid", {"lr": Domain.model_validate({kind: [1, 2]})}, 0)
