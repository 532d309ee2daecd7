"""The documents: what they name exists, their links lead somewhere, their examples of the analysis run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import trm
from tests.conftest import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.md")])
RECORDED = ROOT / "tests" / "analysis" / "recorded"  # what the smoke sweep left

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_DEFINITION = re.compile(r"^\[([^\]]+)\]: +(\S+)", re.MULTILINE)  # of a link that stands at a page's end
_REFERENCE = re.compile(r"\]\[([^\]\s]+)\]")
_HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)
_STOP = re.compile(r"`([\w/]+\.py):([\w.]+)`")
_PATH = re.compile(r"`((?:sweeps|trm|analysis|benchmarks|tests|search_spaces)/[\w/.-]*)`")
_MODULE = re.compile(r"`(?:python -m )?((?:sweeps|trm|analysis|benchmarks)(?:\.\w+)+)[`: ]")
OF_THEIR_TIME = {"LOG.md", "CHANGELOG.md", "0009-folders.md"}  # they name what was there, too


def prose(page: Path) -> str:
    return _FENCED.sub("", page.read_text())


def links(page: Path) -> list[str]:
    text = _CODE.sub("", prose(page))
    return _LINK.findall(text) + [target for _, target in _DEFINITION.findall(text)]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    titles = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", title) for title in _HEADING.findall(prose(page))]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def defined(path: Path) -> set[str]:
    """The functions and classes of a file, and the methods as Class.method."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return names


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_by_name_and_their_targets_are_the_same(page: Path) -> None:
    text = _CODE.sub("", prose(page))
    assert set(_REFERENCE.findall(text)) == {name for name, _ in _DEFINITION.findall(text)}


def test_the_index_leads_to_every_page() -> None:
    docs = ROOT / "docs"
    index = docs / "index.md"
    reached = {(docs / link.partition("#")[0]).resolve() for link in links(index)}
    assert sorted({page.resolve() for page in docs.rglob("*.md")} - reached - {index}) == []
    assert "docs/index.md" in links(ROOT / "README.md")


def test_changelog_and_citation_name_the_version() -> None:
    version, released = re.findall(
        r"^version: (.+)\ndate-released: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE
    )[0]
    releases = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert version == trm.__version__ and f"{version} ({released})" in releases


def test_every_paper_that_a_mixer_names_is_cited() -> None:
    cited = (ROOT / "CITATION.cff").read_text()
    code = "".join(file.read_text() for file in (ROOT / "trm" / "mixers").rglob("*.py"))
    papers = set(re.findall(r"arXiv (\d{4}\.\d{5})", code))
    assert len(papers) >= 12  # or papers are no longer named so
    assert [paper for paper in sorted(papers) if f"arxiv.org/abs/{paper}" not in cited] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_merge_has_left_its_marks(page: Path) -> None:
    assert not re.search("^(<{7}|={7}|>{7})( |$)", page.read_text(), re.MULTILINE)


def test_the_stops_of_the_architecture_exist() -> None:
    stops = _STOP.findall((ROOT / "docs" / "architecture.md").read_text())
    assert len(stops) > 40  # or the pattern no longer fits the page
    missing = [f"{file}:{name}" for file, name in stops if name not in defined(ROOT / file)]
    assert not missing


def exists(dotted: str) -> bool:
    """Whether a module has this name, or a name in a module."""
    place, parts = ROOT, dotted.split(".")
    while parts and (place / parts[0]).is_dir():
        place /= parts.pop(0)
    file = place / f"{parts[0]}.py" if parts and (place / f"{parts[0]}.py").exists() else None
    return not parts or (file is not None and (not parts[1:] or ".".join(parts[1:]) in defined(file)))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_named_files_and_modules_exist(page: Path) -> None:
    if page.name in OF_THEIR_TIME:
        return
    text = page.read_text()
    missing = [path for path in _PATH.findall(text) if "*" not in path and not (ROOT / path).exists()]
    assert not missing + [name for name in _MODULE.findall(text) if not exists(name)]


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_the_examples_of_the_analysis_run(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = re.findall(r"```python\n(from analysis.*?)```", (ROOT / page).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert "results/smoke" in block
        exec(block.replace("results/smoke", str(RECORDED)), {})
    assert "arm" in capsys.readouterr().out
