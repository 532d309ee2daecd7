"""YAML with the scalars of YAML 1.2's core schema, errors for duplicate keys, and line numbers in errors.

PyYAML follows YAML 1.1, where `1e-4` is a string, `off` is False and `010` is 8. Here `1e-4` is a number,
`on`, `off`, `yes`, `no` and dates are strings, and only true and false (True, TRUE, ...) are booleans.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

_SCALARS: list[tuple[str, str, str]] = [  # tag, pattern, possible first characters
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("merge", r"<<", "<"),
]


class YamlError(ValueError):
    """A file is not valid YAML; the message gives file, line and problem."""


MAX_NODES = 100_000  # values in a document, with aliases expanded; more is a mistake or an attack


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's name

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        # Always deep, so that a node that contains itself is an error and not an infinite structure.
        return super().construct_object(node, deep=True)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MAX_NODES:
            problem = f"merges give more than {MAX_NODES:,} keys: shorten them"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                problem = f"a key must be a name, not a list or a mapping: {key!r}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if key in lines:
                problem = f"duplicate key {key!r} (first on line {lines[key]}): remove one"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            lines[key] = line
        return super().construct_mapping(node, deep=True)


def _construct_int(loader: _Loader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text, base)


def _construct_float(loader: _Loader, node: yaml.ScalarNode) -> float:
    return float(loader.construct_scalar(node).lower().replace(".inf", "inf").replace(".nan", "nan"))


for _tag, _pattern, _first in _SCALARS:
    firsts = ["" if char == "\0" else char for char in _first]
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), firsts)
_Loader.add_constructor("tag:yaml.org,2002:int", _construct_int)
_Loader.add_constructor("tag:yaml.org,2002:float", _construct_float)


class _Dumper(yaml.SafeDumper):
    """Quotes each string that YAML 1.1 or 1.2 would parse as another type."""


_Dumper.yaml_implicit_resolvers = {
    char: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(char, []),
        *_Loader.yaml_implicit_resolvers.get(char, []),
    ]
    for char in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def dump_yaml(value: Any) -> str:
    """Plain values (mappings, lists, scalars) as YAML with one meaning in YAML 1.1 and 1.2."""
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def in_a_line(value: Any) -> str:
    """A mapping or list as YAML in one line; `str` of anything else."""
    if not isinstance(value, dict | list):
        return str(value)
    text: str = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=10**6)
    return text.strip()


def _parse(text: str, source: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = f"{source}:{mark.line + 1}" if mark else source
        raise YamlError(f"{position}: {error.problem or error.context}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise YamlError(f"{source}: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise YamlError(f"{source}: nested too deeply to be read") from error


def load_yaml(path: Path) -> Any:
    """The single document of a YAML file (None if it is empty). Raises YamlError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise YamlError(f"{path}: no such file: check the path") from error
    except OSError as error:
        raise YamlError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise YamlError(f"{path}: is not UTF-8 text (byte {error.start}): save it as UTF-8") from error
    return _parse(text, str(path))


def parse_scalar(text: str) -> Any:
    """The value in `--set path=value`: flow YAML if it starts with [, { or a quote, else a scalar.

    Other text, such as a file path or `a: b`, is a string and needs no quotes. Raises YamlError.
    """
    text = text.strip()
    if text[:1] in ("[", "{", '"', "'"):
        return _parse(text, f"the value {text!r}")
    tag = _Loader("").resolve(yaml.ScalarNode, text, (True, False))  # type: ignore[no-untyped-call]
    if tag == "tag:yaml.org,2002:str" or text == "<<":
        return text
    try:
        return _Loader("").construct_object(yaml.ScalarNode(tag, text))
    except ValueError as error:  # more digits than Python converts
        raise YamlError(f"the value {text[:40]!r}...: {error}") from error
