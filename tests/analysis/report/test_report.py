"""The page: whole or not at all, escaped, self-contained, and with the numbers that the trials give."""

from __future__ import annotations

import json
import math
import re
import shutil
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from analysis.compare.ranking import rank_arms
from analysis.figures.registry import figures_of
from analysis.report import page as page_parts
from analysis.report.__main__ import main
from analysis.report.build import render, write_report
from analysis.report.latex import escape, to_latex
from analysis.report.limits import cannot_be_concluded
from analysis.report.sentences import design
from analysis.report.summary import ranking_text
from analysis.report.table import to_csv
from analysis.sweep import AnalysisError, load_sweep
from sweeps import launch
from sweeps.observe.summary import Outcome
from sweeps.options import LaunchOptions
from tests.analysis.played import played
from tests.analysis.synthetic import EXACT, OBJECTIVE, RECORDED, Fake, at_equal_flops, write_sweep

VOID = {"wbr", "meta", "br", "img", "path", "use", "rect", "line", "circle"}


class Page(HTMLParser):
    """The text, the tables' cells, the tags, and whether every tag is closed in turn."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text, self.headline, self.headings, self.rows = "", "", [], []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self._open: list[str] = []
        self.feed(source)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.add(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given[key] for key in ("href", "src", "xlink:href") if key in given]
        if tag not in VOID:
            self._open.append("headline" if given.get("class") == "headline" else tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")
        if tag == "svg" and given.get("class") == "dot":
            self.rows[-1][-1] += "● "

    def handle_startendtag(self, tag, attrs):
        if tag not in VOID:
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)
        else:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self._open.pop() in (tag, "headline")

    def handle_data(self, data):
        if not {"style", "svg"} & set(self._open):
            self.text += data
        if "headline" in self._open:
            self.headline += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if {"h1", "h2"} & set(self._open):
            self.headings[-1] += data

    def row(self, start: str) -> list[str]:
        return next(row for row in self.rows if row[0].startswith(f"● {start}") or row[0] == start)

    def cell(self, arm: str, head: str) -> str:
        """Of the first table with a column of such a head."""
        place = next(
            row.index(each) for row in self.rows for each in row if row[0] == "arm" and each.startswith(head)
        )
        return self.row(arm)[place]


def report_of(folder: Path) -> Page:
    return Page(render(load_sweep(folder)))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    return Path(shutil.copytree(RECORDED, tmp_path / "recorded"))


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded sweep with its report, to be read; it takes seconds to write."""
    folder = Path(shutil.copytree(RECORDED, tmp_path_factory.mktemp("reported") / "recorded"))
    assert write_report(folder) == folder / "report.html"
    return folder


@pytest.fixture
def with_report(reported: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(reported, tmp_path / "recorded"))


def test_the_recorded_sweeps_page_has_its_numbers(reported: Path) -> None:
    page, trials = Page((reported / "report.html").read_text()), pd.read_parquet(reported / "trials.parquet")
    done = trials[trials["status"] == "completed"].groupby("arm")
    for arm, mean in done[OBJECTIVE].mean().items():
        assert page.cell(arm, "val exact accuracy").startswith(f"{100 * mean:.1f}")
        assert page.cell(arm, "seeds") == str(done.size()[arm])
    for trial in trials.loc[trials["status"] == "pruned", "trial_id"]:
        assert trial in page.text
    for heading in (
        "Ranking",
        "Learning curves",
        "Stopped early",
        "What cannot be concluded",
        "To reproduce",
    ):
        assert heading in page.headings
    facts, _, space = page.text.partition("sweep.yaml, as resolved")
    digest = str(load_sweep(reported).resolved["hash"])
    assert digest[:12] in facts and digest not in facts and digest in space
    assert "identity" not in facts


def test_the_page_needs_nothing_but_itself(reported: Path) -> None:
    source = (reported / "report.html").read_text()
    page = Page(source)
    assert not page.tags & {"script", "link", "iframe", "img"}
    assert {link for link in page.links if not link.startswith("#")} == {"report/explore.html"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))
    assert "prefers-color-scheme: dark" in source and "width=device-width" in source
    assert "currentColor" in source and "@import" not in source
    drawings = re.findall(r"<svg .*?>\s*<title id=.*?>(.*?)</title>", source, re.DOTALL)
    marks = source.count('<svg class="dot" aria-hidden="true"')
    assert len(drawings) == source.count("<svg ") - marks and all(drawings)


def contrast(one: str, other: str) -> float:
    """Of two colours "#rrggbb", by WCAG 2."""

    def luminance(color: str) -> float:
        parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_all_text_can_be_read_in_both_schemes() -> None:
    css = (page_parts.HERE / "style.css").read_text()
    schemes = [
        dict(re.findall(r"--(\w+): (#\w+)", block)) for block in re.findall(r":root {(.*?)}", css, re.S)
    ]
    assert len(schemes) == 2
    for colors in schemes:
        pages = [each + each[1:] * (len(each) == 4) for each in (colors["page"], colors["wash"])]
        for text in ("ink", "soft", "link"):
            assert all(contrast(colors[text], page) >= 4.5 for page in pages)


def test_the_page_links_to_the_runs_in_mlflow(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "sweep", {"a": Fake(0.4), "b": Fake(0.6)})
    assert "in MLflow" not in render(load_sweep(folder))
    link = "http://127.0.0.1:5000/#/experiments/1/runs?viewStateShareKey=k&compareRunsMode=CHART"
    (folder / "mlflow.json").write_text(json.dumps({"link": link}))
    assert link in Page(render(load_sweep(folder))).links


def test_difference_and_p_of_confirmed_arms(tmp_path: Path) -> None:
    arms = {"attention": Fake(0.7), "mlp": Fake(0.9), "none": Fake(0.7)}
    folder = write_sweep(tmp_path / "s", arms, seeds=tuple(range(1, 9)), phase="evidence", space=EXACT)
    page, ranked = report_of(folder), rank_arms(load_sweep(folder)).set_index("arm")
    row = ranked.loc["mlp"]
    interval = "[{:+.1f}, {:+.1f}]".format(*(100 * row[["test_diff_low", "test_diff_high"]]))
    assert page.cell("mlp", "difference") == f"{100 * row['test_diff']:+.1f}{interval}".replace("-", "−")
    assert row["test_p_adjusted"] == 2 / 128 and page.cell("mlp", "p (") == "0.016better"
    assert "better than attention: mlp (" in page.text and f"{interval} points, p = 0.016" in page.text
    assert "Whether none differs from attention: the difference is not significant" in page.text
    assert page.cell("attention", "difference") == "baseline"


def test_n_too_small_is_said(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    page = report_of(
        write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2), phase="evidence", test=False, space=EXACT)
    )
    assert page.cell("b", "p (") == "0.25too few seeds"
    assert "cannot give less than p = 0.25" in page.text and "from 6 seeds on" in page.text
    assert "no test counterpart of val exact accuracy" in page.text


def test_names_are_escaped(tmp_path: Path) -> None:
    evil = '<script>alert("x")</script>&$_{$'
    arms = {evil: Fake(0.5), "b<i>": Fake(0.9, stop=0.25), "c": Fake(0.4, statuses={1: "failed"})}
    page = report_of(write_sweep(tmp_path / "s", arms, space={"name": "<b>name</b>"}))
    assert not page.tags & {"script", "i", "b"}
    assert evil in page.text and "<b>name</b>" in page.text


@pytest.mark.parametrize(
    "arms",
    [
        {"only": Fake(0.8)},
        {"a": Fake(0.8, params=None, flops=None), "b": Fake(0.7, params=None, flops=None)},
        {"a": Fake(0.8, statuses={0: "diverged"}), "b": Fake(0.7, statuses={1: "not_started"})},
        {"base": Fake(0.8, stop=0.25), "b": Fake(0.7)},
        {f"mixer+a_rather_long_factor={i}": Fake(0.1 * i, params=10**i) for i in range(10)},
    ],
    ids=["one arm", "no parameters", "missing seeds", "baseline stopped", "many arms"],
)
def test_sparse_sweeps_have_a_page(tmp_path: Path, arms: dict[str, Fake]) -> None:
    page = report_of(write_sweep(tmp_path / "s", arms))
    assert "nan" not in page.text.lower().replace("is nan", "")
    assert all(any(arm in row[0] for row in page.rows) for arm in arms)


def test_a_single_seed_has_no_interval(tmp_path: Path) -> None:
    page = report_of(write_sweep(tmp_path / "s", {"a": Fake(0.8), "b": Fake(0.7)}, seeds=(3,)))
    assert "[" not in "".join(page.row("a")) and "with one seed there is no interval" in page.text


def test_diverged_trials_are_listed_and_left_out(tmp_path: Path) -> None:
    arms = {"a": Fake(0.8), "b": Fake(0.7, statuses={0: "diverged"})}
    page = report_of(write_sweep(tmp_path / "s", arms, phase="evidence"))
    assert page.row("b-d0-s0")[1:3] == ["diverged", "train/loss is nan"]
    assert "of its 2 trials 1 diverged, and the mean" in page.text


@pytest.mark.parametrize("status", ["failed", "not_started", "pruned"])
def test_without_a_completed_trial_there_is_no_page(tmp_path: Path, status: str, capsys) -> None:
    arms = {"a": Fake(0.8, statuses={0: status, 1: status})}
    folder = write_sweep(tmp_path / "s", arms)
    with pytest.raises(AnalysisError, match=f"no trial has completed .*2 {status}"):
        write_report(folder)
    assert main([str(folder)]) == 2
    assert capsys.readouterr().err.startswith("error: s: no trial has completed")
    assert not list(folder.glob("*report*")) and not list(folder.glob(".*"))


def test_a_page_is_replaced_whole_or_stays(with_report: Path) -> None:
    before = (with_report / "report.html").read_bytes()
    (with_report / "trials.parquet").write_text("broken")
    assert main([str(with_report)]) == 2
    assert (with_report / "report.html").read_bytes() == before
    assert sorted(path.name for path in with_report.glob("*report*")) == ["report", "report.html"]
    assert not list(with_report.glob(".*"))


def test_the_same_results_give_the_same_files(reported: Path) -> None:
    first = {path: path.read_bytes() for path in reported.rglob("*") if path.is_file()}
    write_report(reported)
    assert {path: path.read_bytes() for path in reported.rglob("*") if path.is_file()} == first


def test_beside_the_page_are_its_figures_and_its_table(reported: Path) -> None:
    files = reported / "report"
    names = [each.name for each in figures_of(load_sweep(reported))]
    for name in names:
        assert (files / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        for width in ("", "_wide"):
            assert (files / f"{name}{width}.pdf").read_bytes().startswith(b"%PDF")
    table, ranked = pd.read_csv(files / "table.csv"), rank_arms(load_sweep(reported))
    assert list(table["arm"]) == list(ranked["arm"])
    assert table["val exact accuracy (%)"].to_numpy() == pytest.approx(100 * ranked["mean"], nan_ok=True)
    latex = (files / "table.tex").read_text()
    mean = "test_mean" if "test_mean" in ranked else "mean"
    for arm, value in zip(ranked["arm"], ranked[mean], strict=True):
        row = next(line for line in latex.splitlines() if re.match(rf"{arm}(\\tnote{{\w}})? &", line))
        assert row.endswith(r"\\") and (math.isnan(value) or f" {100 * value:.1f} &" in row)
        assert row.count("&") == latex.partition("toprule")[2].partition("midrule")[0].count("&")
    opened: list[str] = []
    for kind, name in re.findall(r"\\(begin|end){(\w+)}", latex):
        assert kind == "begin" or opened.pop() == name
        opened += [name] if kind == "begin" else []
    assert not opened
    assert len(latex.partition("caption{")[2].partition("}")[0].split()) < 12


def test_nan_in_history_leaves_the_page_whole(recorded: Path) -> None:
    history = pd.read_parquet(recorded / "history.parquet")
    history.loc[history.index % 3 == 0, OBJECTIVE] = math.nan
    history.to_parquet(recorded / "history.parquet")
    assert "Learning curves" in report_of(recorded).headings


def test_a_stopped_arm_that_was_better_than_one_that_went_on_is_told(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.8), "b": Fake(0.7, stop=0.25)})
    first = {"time": 0.0, "event": "decision", "member": "a-d0", "trial_id": "a-d0-s0", "rung": 100_000.0}
    first |= {"value": 0.2, "cutoff": None, "action": "continue"}
    journal = (folder / "journal.jsonl").read_text()
    (folder / "journal.jsonl").write_text(json.dumps(first) + "\n" + journal)
    assert (
        "That b-d0 is worse than a-d0: at 100k it was stopped with the better value" in report_of(folder).text
    )
    (folder / "journal.jsonl").write_text(json.dumps(first | {"value": 0.9}) + "\n" + journal)
    assert "with the better value" not in report_of(folder).text


def test_an_exploratory_difference_is_headed_without_an_interval(tmp_path: Path) -> None:
    page = report_of(write_sweep(tmp_path / "s", {"a": Fake(0.5), "b": Fake(0.9)}))
    verdict = page.text.split("b ranks first, with")[1].split("it proves nothing")[0]
    assert "points from a" in verdict and "[" not in verdict


def test_too_few_seeds_are_headed_as_such(tmp_path: Path) -> None:
    arms = {"a": Fake(0.5), "b": Fake(0.9)}
    page = report_of(write_sweep(tmp_path / "s", arms, seeds=(0, 1, 2), phase="evidence", space=EXACT))
    assert "not settled: b (too few seeds)" in page.text and "not significant" not in page.text


def test_the_same_seeds_libraries_and_data_can_be_had_again(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path / "s", {"a": Fake(0.8), "b": Fake(0.7)}, seeds=(3, 5))
    launch = {"event": "launch", "code": "0.1.0+abc", "libraries": "Python 3.12.1, torch 2.11.0"}
    (folder / "journal.jsonl").write_text(json.dumps(launch) + "\n")
    page = report_of(folder)
    facts = ("a1b2c3d4", "0f1e2d3c4b5a", "0.1.0+abc", "Python 3.12.1, torch 2.11.0", "3 and 5")
    assert all(fact in page.text for fact in facts)
    assert f"python run_sweep.py {folder}/sweep.yaml --name s-again" in page.text


def test_an_arm_that_misses_the_matched_budget_is_marked_everywhere(tmp_path: Path) -> None:
    met = {"key": "model.mixer.expand", "value": 1.75, "off": 0.004, "matched": True}
    missed = met | {"value": 4, "off": -0.26, "matched": False}
    arms = {"a": Fake(0.5, match=met), "b": Fake(0.6, match=missed), "c": Fake(0.7)}
    space = {"match": {"params": 6.83e6, "by": "model.mixer.expand"}}
    sweep = load_sweep(write_sweep(tmp_path / "s", arms, space=space))
    page = Page(render(sweep))
    assert page.row("arm")[-1] == "matched expand" and page.row("b †")[-1] == "4"
    assert page.row("a")[-1] == "1.75" and page.row("c")[-1] == "–"
    assert "† Not matched: misses the parameters asked for (b by −26.0%)." in page.text
    assert r"b$^\dagger$ &" in to_latex(sweep) and "by $-$26.0\\%" in to_latex(sweep)
    assert "†" not in render(load_sweep(write_sweep(tmp_path / "t", {"a": Fake(0.5), "b": Fake(0.6)})))


def test_the_table_for_a_paper_says_what_was_stopped_and_what_is_off_the_budget(tmp_path: Path) -> None:
    off = {"key": "model.mixer.expand", "value": None, "off": -0.26, "matched": False}
    arms = {
        "a": Fake(0.5),
        "b_2": Fake(0.6, stop=0.25, match=off | {"value": 1.75}),
        "c": Fake(0.4, match=off),
    }
    sweep = load_sweep(write_sweep(tmp_path / "s", arms))
    latex, table = to_latex(sweep), pd.read_csv(StringIO(to_csv(sweep))).set_index("arm")
    assert (
        r"b\_2$^\dagger$\tnote{a} &" in latex
        and r"\item[a] 2 of 2 stopped early" in latex
        and "wall time" not in latex
    )
    assert table.loc["b_2", "not completed"] == "2 of 2 stopped early"
    assert table.loc["b_2", "matched expand"] == 1.75 and math.isnan(table.loc["c", "matched expand"])
    assert table.loc["c", "off the matched budget (%)"] == pytest.approx(-26.0)
    assert table.loc["c", "verdict"] == "exploratory"


def test_a_report_that_cannot_be_finished_leaves_the_one_before(
    with_report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in with_report.rglob("*")}
    (with_report / "trials.parquet").touch()

    def full_disk(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.report.export.to_latex", full_disk)
    assert main([str(with_report)]) == 2
    after = {path: path.stat().st_mtime_ns for path in with_report.rglob("*")}
    assert set(after) == set(before)
    assert all(after[path] == before[path] for path in (with_report / "report").iterdir())


def test_a_page_that_cannot_be_put_in_place_leaves_both_as_they_were(
    with_report: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path: path.stat().st_mtime_ns for path in with_report.rglob("*") if path.is_file()}

    def refused(*_: object) -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refused)
    assert main([str(with_report)]) == 2
    assert {path: path.stat().st_mtime_ns for path in with_report.rglob("*") if path.is_file()} == before


def test_arms_of_one_size_are_not_drawn_over_it(tmp_path: Path) -> None:
    same = load_sweep(write_sweep(tmp_path / "same", {"a": Fake(0.5), "b": Fake(0.6)}))
    other = load_sweep(write_sweep(tmp_path / "other", {"a": Fake(0.5), "b": Fake(0.6, params=10**6)}))
    near = load_sweep(write_sweep(tmp_path / "near", {"a": Fake(0.5), "b": Fake(0.6, params=290_000)}))
    for sweep in (same, near):
        assert not {"params", "flops"} & {each.name for each in figures_of(sweep)}
    assert {"params", "flops"} & {each.name for each in figures_of(other)} == {"params"}


def test_a_launch_ends_as_its_trials_did_where_the_report_cannot_be_written(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full_disk(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("analysis.report.export.to_latex", full_disk)
    given = LaunchOptions(Path("any.yaml"), tracking_uri="sqlite:///none.db", quiet=True)
    launch._write_report(recorded, Outcome(0, recorded, ("as noted",)), given)
    out = capsys.readouterr().out
    assert "No report yet: [Errno 28] No space left on device" in out and "as noted" in out


def test_what_cannot_be_reported_is_one_line_and_exit_2(
    recorded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = recorded / "sweep.yaml"
    space.write_text(space.read_text().replace("version: ", "version: 9."))
    for folder, words in ((recorded, "was written by version 9."), (recorded.parent / "nope", "recorded")):
        assert main([str(folder)]) == 2
        out = capsys.readouterr()
        assert out.out == "" and out.err.startswith("error: ") and words in out.err
        assert out.err.count("\n") == 1
    assert not list(recorded.glob("*report*"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a_b & 5%", r"a\_b \& 5\%"),
        ("−1 <x>", r"$-$1 \textless{}x\textgreater{}"),
        ("±2 × 3", r"$\pm$2 $\times$ 3"),
        ("\\{$", r"\textbackslash{}\{\$"),
    ],
)
def test_latex_shows_what_was_written(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_a_ranking_of_many_arms_is_cut(tmp_path: Path) -> None:
    levels = {f"level{number}": {"lr": 0.1 + number / 1000} for number in range(60)}
    folder = played(tmp_path, lambda arm, seed: 0.5, ablate={"case": {"levels": levels}}, seeds=[1])
    lines = ranking_text(folder).splitlines()
    assert len(lines) == 2 + 50 + 1 and lines[-1] == "and 10 more arms, in summary.csv"


def test_a_sweep_of_equal_training_flops_says_what_is_equal(tmp_path: Path) -> None:
    met = {"key": "train.max_samples", "value": 400_000, "size": 1.6e13, "off": 0.0, "matched": True}
    arms = {"a": Fake(0.5, match=met), "b": Fake(0.6, match=met | {"value": 800_000}, flops=20_000_000)}
    plain = load_sweep(write_sweep(tmp_path / "s", arms, seeds=(1, 2, 3), phase="evidence"))
    sweep = at_equal_flops(plain, 1.6e13)
    assert "trains for 16T training FLOPs on" in design(sweep)
    ranked = rank_arms(sweep).assign(samples=[800_000, 400_000])
    said = " ".join(cannot_be_concluded(sweep, ranked))
    assert "at equal training FLOPs they trained on from 400k to 800k samples" in said
    assert "at equal samples they differ in cost" in " ".join(cannot_be_concluded(plain, ranked))
    drawn = {each.name: each for each in figures_of(sweep)}
    assert "flops" not in drawn and "flops" in [each.name for each in figures_of(plain)]
    assert "over training FLOPs" in drawn["curve_judged"].caption
    assert Page(render(sweep)).row("b")[-1] == "800000"


def test_arms_of_one_colour_have_marks_of_their_own(tmp_path: Path) -> None:
    arms = {f"arm{i}": Fake(0.05 * i) for i in range(11)}
    source = render(load_sweep(write_sweep(tmp_path / "s", arms)))
    marks = re.findall(r'<svg class="dot".*?d="(.*?)" fill="(.*?)"', source)[:11]
    assert len(set(marks)) == 11 > len({color for _, color in marks})
