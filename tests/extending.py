"""The examples of docs/extending.md, as they stand there: put into a copy of the project, and run."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "extending.md"


def section_of(name: str) -> str:
    """What stands under the page's heading `## NAME`."""
    return PAGE.read_text().split(f"\n## {name}\n")[1].split("\n## ")[0]


def blocks(section: str) -> dict[str, str]:
    """The code blocks of `## SECTION`, by the path that each one's first line names in a comment."""
    found = re.findall(r"^```\w+\n(# (\S+)\n.*?)^```$", section_of(section), re.DOTALL | re.MULTILINE)
    return {path: code for code, path in found}


def commands(section: str) -> list[list[str]]:
    """The lines of the shell blocks of `## SECTION`, each as the arguments of a Python."""
    shells = re.findall(r"^```sh\n(.*?)^```$", section_of(section), re.DOTALL | re.MULTILINE)
    programs = {"python": [], "pytest": ["-m", "pytest"]}
    lines = [shlex.split(line) for shell in shells for line in shell.splitlines()]
    return [[*programs[program], *rest] for program, *rest in lines]


def copy(folder: Path, *names: str) -> Path:
    """These files and folders of the project in `folder`."""
    ignored = shutil.ignore_patterns("__pycache__", "golden", "recorded")
    for name in names:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copyfile(source, target)
    return folder


def add(folder: Path, section: str) -> None:
    """Put the section's files into a copy of the project. A block of a file that is there is a line of the
    table in it."""
    for path, code in blocks(section).items():
        target = folder / path
        if target.exists():
            line, table = code.split("\n", 1)[1], target.read_text()
            end = table.index(")\n", table.index("NAMES = (\n"))
            target.write_text(table[:end] + line + table[end:])
        else:
            target.parent.mkdir(exist_ok=True)
            target.write_text(code)


def run(folder: Path, *arguments: str) -> str:
    """What a Python command in `folder` prints. The packages there come before the installed ones."""
    done = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(arguments)}\n{done.stdout}{done.stderr}"
    return done.stdout
