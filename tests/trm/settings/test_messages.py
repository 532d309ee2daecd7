from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from trm.settings.messages import did_you_mean, dotted_keys, explain


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Dog(Strict):
    kind: Literal["dog"] = "dog"
    tail_length: int = Field(3, ge=1)


class Fish(Strict):
    kind: Literal["fish"] = "fish"
    depth: float = 1.0


class Level(Strict):
    weight: float


class House(Strict):
    pet: Annotated[Dog | Fish, Field(discriminator="kind")] = Dog()
    size: Literal["small", "large"] = "small"
    mixed: int | list[int] = 1

    @model_validator(mode="after")
    def _large_for_fish(self) -> House:
        if isinstance(self.pet, Fish) and self.size == "small":
            raise ValueError("pet.kind is fish, but size is small: choose large")
        return self


class Street(Strict):
    house: House = House()
    number: int
    levels: dict[str, Level] = {}
    values: list[float] = []


def message(given: Any) -> str:
    with pytest.raises(ValidationError) as error:
        Street.model_validate(given)
    return explain(error.value, Street, "street.yaml")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "number: is required: add it"),
        ({"number": 1, "numbr": 2}, "numbr: unknown key (given 2): did you mean number?"),
        (
            {"number": 1, "house": {"sizes": 3}},
            "house.sizes: unknown key (given 3): did you mean house.size?",
        ),
        ({"number": 1, "depth": 3}, "depth: unknown key (given 3): did you mean house.pet.depth?"),
        (
            {"number": 1, "house": {"pet": {"kind": "dog", "tail_lenght": 4}}},
            "house.pet.tail_lenght: unknown key (given 4): did you mean house.pet.tail_length?",
        ),
        (
            {"number": 1, "house": {"pet": {"kind": "dog", "depth": 4}}},
            "house.pet.depth: unknown key (given 4): the keys here are kind, tail_length",
        ),
        (
            {"number": 1, "house": {"pet": {"kind": "fsh"}}},
            "house.pet.kind: unknown (given 'fsh'): one of dog, fish; did you mean fish?",
        ),
        (
            {"number": 1, "house": {"pet": {"depth": 2}}},
            "house.pet.kind: is required: say which kind this is",
        ),
        (
            {"number": 1, "house": {"pet": {"kind": "dog", "tail_length": 0}}},
            "house.pet.tail_length: must be greater than or equal to 1 (given 0)",
        ),
        ({"number": 1, "house": {"size": "huge"}}, "house.size: must be 'small' or 'large' (given 'huge')"),
        (
            {"number": 1, "house": {"pet": {"kind": "fish"}}},
            "house: pet.kind is fish, but size is small: choose large",
        ),
        ({"number": 1, "house": 5}, "house: must be a mapping of keys (given 5)"),
        (5, "top level: must be a mapping of keys (given 5)"),
        (
            {"number": 1, "levels": {"low": {"wieght": 1, "weight": 2}}},
            "levels.low.wieght: unknown key (given 1): did you mean levels.low.weight?",
        ),
        ({"number": 1, "levels": {"low": {}}}, "levels.low.weight: is required: add it"),
    ],
)
def test_each_error_is_one_line_with_key_value_and_remedy(given: Any, expected: str) -> None:
    assert message(given) == f"street.yaml: {expected}"


def test_numbers_that_do_not_parse() -> None:
    assert message({"number": "x"}).startswith("street.yaml: number: must be a valid integer")
    assert message({"number": 1, "values": [1, "x"]}).startswith(
        "street.yaml: values.1: must be a valid number"
    )


def test_several_errors_are_several_lines() -> None:
    lines = message({"house": {"size": "huge"}, "x": 1}).splitlines()
    assert len(lines) == 3
    assert all(line.startswith("street.yaml: ") for line in lines)


def test_union_members_are_not_part_of_the_key() -> None:
    assert all(
        line.startswith("street.yaml: house.mixed: must be a valid")
        for line in message({"number": 1, "house": {"mixed": "x"}}).splitlines()
    )


@pytest.mark.parametrize(
    ("mixed", "expected"),
    [
        ("x", ["house.mixed: must be a valid integer"]),
        ([1, "x", "y"], ["house.mixed.1: must be a valid integer", "house.mixed.2: must be a valid integer"]),
    ],
)
def test_of_a_value_or_a_list_that_one_is_explained_that_was_given(mixed: Any, expected: list[str]) -> None:
    lines = message({"number": 1, "house": {"mixed": mixed}}).splitlines()
    assert len(lines) == len(expected)
    assert all(line.startswith(f"street.yaml: {key}") for line, key in zip(lines, expected, strict=True))


def test_long_values_are_cut() -> None:
    assert len(message({"number": 1, "size": "x" * 1000})) < 250


def test_dotted_keys_and_suggestions() -> None:
    keys = dotted_keys(Street)
    assert "house.pet.tail_length" in keys
    assert "house.pet.depth" in keys
    assert len(keys) == len(set(keys))
    assert did_you_mean("house.pet.dept", keys) == "did you mean house.pet.depth?"
