from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trm.settings.yaml import YamlError, load_yaml, parse_scalar

SCALARS = [
    ("1e-4", 1e-4),
    ("1.0e-4", 1e-4),
    ("-.5", -0.5),
    ("3.", 3.0),
    ("1E3", 1000.0),
    ("010", 10),
    ("-7", -7),
    ("+7", 7),
    ("0o17", 15),
    ("0x1F", 31),
    (".inf", math.inf),
    ("-.inf", -math.inf),
    ("true", True),
    ("False", False),
    ("null", None),
    ("~", None),
    ("", None),
    ("off", "off"),
    ("on", "on"),
    ("yes", "yes"),
    ("no", "no"),
    ("y", "y"),
    ("2026-11-24", "2026-11-24"),
    ("12:30", "12:30"),
    ("1e-4x", "1e-4x"),
    ("cuda:0", "cuda:0"),
    ("~/data", "~/data"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_follow_yaml_1_2(tmp_path: Path, text: str, value: object) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(f"key: {text}\n")
    for got in (load_yaml(path)["key"], parse_scalar(text)):
        assert got == value
        assert type(got) is type(value)


def test_nan() -> None:
    assert math.isnan(parse_scalar(".nan"))


def test_flow_values() -> None:
    assert parse_scalar("[0.9, 1e-1]") == [0.9, 0.1]
    assert parse_scalar("{kind: mlp, expand: 2}") == {"kind": "mlp", "expand": 2}
    assert parse_scalar('"1"') == "1"
    assert parse_scalar("a: b") == "a: b"
    with pytest.raises(YamlError, match=r"\[0\.9"):
        parse_scalar("[0.9")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers() | st.booleans())
def test_python_numbers_survive(value: float) -> None:
    got = parse_scalar(str(value))
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a' (first on line 1)"),
        ("a:\n  b: 1\n  b: 1\n", 3, "duplicate key 'b'"),
        ("a: 1\nb: [1, 2\n", 3, "expected"),
        ("a: 1\n\tb: 2\n", 2, ""),
        ("a: 1\n? [1]\n: 2\n", 2, "a key must be a name"),
        ("a: !!python/object/apply:os.getcwd []\n", 1, "could not determine a constructor"),
        ("a: 1\n--- \nb: 2\n", 2, ""),
        ("a: &x [*x]\n", 1, "recursive"),
    ],
)
def test_errors_name_file_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(YamlError) as error:
        load_yaml(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_merge_keys_are_not_duplicates(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}\n")
    assert load_yaml(path)["other"] == {"a": 1, "b": 3}


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(YamlError, match=r"missing\.yaml: no such file"):
        load_yaml(tmp_path / "missing.yaml")
    with pytest.raises(YamlError, match="cannot be read"):
        load_yaml(tmp_path)
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"a: \xff\n")
    with pytest.raises(YamlError, match="not UTF-8"):
        load_yaml(binary)
    deep = tmp_path / "deep.yaml"
    deep.write_text("[" * 5000)
    with pytest.raises(YamlError):
        load_yaml(deep)


def test_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "empty.yaml"
    path.write_text("")
    assert load_yaml(path) is None
