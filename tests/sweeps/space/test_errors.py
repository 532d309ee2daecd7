"""The errors of several arms as one."""

from __future__ import annotations

import pytest

from analysis.format import NAMED
from sweeps.space.errors import SpecError, SpecErrors


def raised(texts: dict[str, str]) -> str:
    errors = SpecErrors()
    for arm, text in texts.items():
        with errors.of(arm):
            raise SpecError(text)
    with pytest.raises(SpecError) as error:
        errors.raise_any()
    return str(error.value)


def test_without_an_error_nothing_is_raised() -> None:
    errors = SpecErrors()
    with errors.of("arm a"):
        pass
    errors.raise_any()


def test_each_arm_has_its_line() -> None:
    assert raised({"arm a": "arm a: x is 1", "arm b": "arm b: x is 2"}) == "arm a: x is 1\narm b: x is 2"


def test_the_same_error_of_many_arms_hides_no_other_one() -> None:
    texts = {f"arm {n}": f"arm {n}: x is bad" for n in range(20)} | {"arm z": "arm z: y is bad"}
    assert raised(texts) == "arm 0: x is bad (19 other arms have the same error)\narm z: y is bad"


def test_what_names_no_arm_is_said_once() -> None:
    assert raised({"arm a": "ablate.x: bad", "arm b": "ablate.x: bad"}) == "ablate.x: bad"


@pytest.mark.parametrize("more", [1, 2, 30])
def test_the_number_of_lines_is_bounded(more: int) -> None:
    lines = raised({f"arm {n}": f"arm {n}: x is {n * n}" for n in range(NAMED + more)}).splitlines()
    assert len(lines) == NAMED + 1
    assert lines[-1] == (f"and {more} other errors" if more > 1 else "arm 5: x is 25")
