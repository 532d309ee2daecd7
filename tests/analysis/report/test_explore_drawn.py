"""The page of all trials as Chromium draws it: marks, ticks, colours, and what has room on a phone."""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import Any

import pytest

from analysis.report.explore import explore
from analysis.sweep import Sweep, load_sweep
from tests.analysis.synthetic import OBJECTIVE, Fake, write_sweep

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PHONE = 390
ARMS = "attention mlp mamba mamba2 mamba3 gated_deltanet kda rwkv7 mlstm attention_mlp mlp_gated_deltanet"
TEXTS = "const texts = (of) => [...of.querySelectorAll('text')].map((each) => each.textContent);"
CHOOSE = """const choose = (label, value) => {
    const select = page.querySelector(`select[aria-label="${label}"]`);
    select.value = value;
    select.dispatchEvent(new Event("change"));
};"""

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs Chromium")


def sweep_of(folder: Path, **arms: Fake) -> Sweep:
    """Three draws on two seeds are the search, two more seeds the evidence."""
    tune = {"optim.lr": [0.001, 0.002, 0.004], "model.layers": [1, 2, 3]}
    folder = write_sweep(folder / "s", arms, seeds=(0, 1, 2, 3), draws=(0, 1, 2), tune=tune)
    sweep = load_sweep(folder)
    phase = sweep.trials["phase"].where(sweep.trials["seed"] < 2, "evidence")
    trials = sweep.trials.assign(phase=phase)
    return replace(sweep, trials=trials[(phase == "search") | (trials["draw"] == 0)])


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    names = ARMS.split()
    arms = {name: Fake(0.98 - 0.07 * i) for i, name in enumerate(names)}
    return sweep_of(tmp_path, **arms | {names[0]: Fake(0.98, statuses={1: "diverged"})})


def seen(sweep: Sweep, folder: Path, ask: str, *, width: int = 1300, dark: bool = False) -> Any:
    """What the JavaScript `ask` returns, which finds the drawn page as `page`."""
    file = folder / "outer.html"
    text, style = html.escape(explore(sweep)), f"width:{width}px;height:900px;border:0"
    file.write_text(  # a window is 500 pixels wide at least, and a frame as narrow as one likes
        f'<meta charset="utf-8"><iframe srcdoc="{text}" style="{style}"></iframe>'
        '<pre id="found"></pre><script>onload = () => { const view = frames[0], page = view.document;'
        f"{TEXTS}{CHOOSE} found.textContent = JSON.stringify((() => {{ {ask} }})()); }};</script>",
        encoding="utf-8",
    )
    command = [
        str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--dump-dom",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}", "--window-size=1600,1200",
        f"--user-data-dir={folder / 'browser'}", file.as_uri(),
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=PIPE, stderr=DEVNULL, text=True, start_new_session=True) as browser:
        try:
            drawn, _ = browser.communicate(timeout=120)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(browser.pid, signal.SIGKILL)  # its helpers too
    found = re.findall(r'<pre id="found">(.*?)</pre>', drawn, re.DOTALL)[-1]
    assert found, "the page's script failed"
    return json.loads(html.unescape(found))


def test_eleven_arms_differ_by_the_shape_of_their_marks_and_by_their_lines(sweep, tmp_path) -> None:
    ask = """
        const look = (of) => ["polyline, line", "path"].map((name) => of.querySelector(name)).map((node) =>
            [node.style.color, node.getAttribute("d") ?? node.getAttribute("stroke-dasharray") ?? ""].join());
        const drawn = (id, name) => page.querySelector(`.plot ${name}.mark[data-id="${id}"]`);
        const data = JSON.parse(page.getElementById("data").textContent);
        return {
            buttons: [...page.querySelectorAll("#arms button")].map((each) => [each.textContent, look(each)]),
            marks: [...page.querySelectorAll(".plot path.mark[data-id]")].map((each) => each.dataset.id),
            lines: data.arms.map((arm) => {
                const id = data.trials.find((trial) => trial.arm === arm.name).id;
                return [drawn(id, "polyline").getAttribute("stroke-dasharray") ?? "",
                        drawn(id, "path").getAttribute("d")];
            }),
        };"""
    found = seen(sweep, tmp_path, ask)
    assert {name for name, _ in found["buttons"]} == set(ARMS.split())
    lines, shapes = zip(*(look for _, look in found["buttons"]), strict=True)
    assert len(set(lines)) == len(set(shapes)) == 11
    assert len({shape.rpartition(",M")[2] for shape in shapes}) == 11  # in black and white too
    assert len(set(map(tuple, found["lines"]))) == 11 and len({dash for dash, _ in found["lines"]}) == 4
    assert set(found["marks"]) == set(sweep.trials["trial_id"])


def test_a_mark_is_open_where_its_trial_did_not_complete(sweep, tmp_path) -> None:
    ask = """
        const marks = [...page.querySelectorAll(".plot path.mark[data-id]")];
        return marks.map((each) => [each.dataset.id, view.getComputedStyle(each).fill !== "none" &&
            view.getComputedStyle(each).fill === view.getComputedStyle(each).color]);"""
    found = seen(sweep, tmp_path, ask)
    assert found
    completed = sweep.trials.set_index("trial_id")["status"] == "completed"
    assert all(full == completed[trial] for trial, full in found)


def test_whole_settings_have_whole_ticks_and_an_axis_ends_at_a_tick_near_its_values(sweep, tmp_path) -> None:
    ask = """
        const all = [...page.querySelectorAll(".plot")].at(-1);
        const heads = [...all.querySelectorAll("text")].filter((each) => +each.getAttribute("y") < 40);
        const near = (a, b) => a !== b && Math.abs(a.getAttribute("x") - b.getAttribute("x")) < 12;
        return heads.map((head) => [head.textContent, [...all.querySelectorAll("text")].filter((each) =>
            near(each, head)).map((each) => each.textContent)]);"""
    ticks = dict(seen(sweep, tmp_path, ask))
    assert ticks["seed"] == ["0", "1", "2", "3"]
    assert ticks["model.layers"] == ["1", "2", "3"]
    assert ticks["optim.lr"] == ["0.001", "0.002", "0.003", "0.004"]
    assert ticks["val exact accuracy (%)"][-1] == "100"


def test_ticks_of_large_whole_numbers_are_told_apart(tmp_path) -> None:
    sweep = sweep_of(tmp_path, a=Fake(0.5), b=Fake(0.6))
    sweep = replace(sweep, trials=sweep.trials.assign(seed=sweep.trials["seed"] + 123_456))
    found = seen(sweep, tmp_path, "return texts([...page.querySelectorAll('.plot')].at(-1));")
    assert {"123.456k", "123.457k", "123.458k", "123.459k"} <= set(found)


def test_texts_stand_over_the_lines_with_a_halo(sweep, tmp_path) -> None:
    ask = """
        return [...page.querySelectorAll(".plot")].map((svg) => {
            const marks = [...svg.querySelectorAll(".mark")].at(-1), text = svg.querySelector("text");
            const style = view.getComputedStyle(text), body = view.getComputedStyle(page.body);
            return [Boolean(marks.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING),
                    style.paintOrder.startsWith("stroke"), style.stroke === body.backgroundColor,
                    parseFloat(style.strokeWidth) >= 2, style.pointerEvents === "none"];
        });"""
    found = seen(sweep, tmp_path, ask)
    assert len(found) == 4 and all(all(each) for each in found)


def test_marks_lines_and_buttons_are_brightened_in_the_dark(sweep, tmp_path) -> None:
    ask = """
        const lit = (node) => node && !node.classList.contains("plot")
            ? view.getComputedStyle(node).filter.includes("brightness") + lit(node.parentElement) : 0;
        return [".plot polyline.mark", ".plot path.mark", "#arms path", "#arms line"].map((each) =>
            lit(page.querySelector(each)));"""
    assert seen(sweep, tmp_path, ask, dark=True) == [1, 1, 1, 1]  # and not twice
    assert seen(sweep, tmp_path, ask) == [0, 0, 0, 0]


def test_a_phone_shows_texts_at_a_readable_size_and_scrolls_what_is_wider(sweep, tmp_path) -> None:
    ask = """
        return {
            over: page.documentElement.scrollWidth - view.innerWidth,
            sizes: [...page.querySelectorAll(".plot text")].map((each) =>
                parseFloat(view.getComputedStyle(each).fontSize) * each.getScreenCTM().a),
            boxes: [...page.querySelectorAll(".plot")].map((svg) => {
                const box = svg.closest(".scroll");
                return [box.scrollWidth > box.clientWidth, box.tabIndex, svg.getBoundingClientRect().width];
            }),
        };"""
    found = seen(sweep, tmp_path, ask, width=PHONE)
    assert found["over"] <= 0 and min(found["sizes"]) >= 11
    assert [scrolls for scrolls, _, _ in found["boxes"]] == [False, False, False, True]
    assert all(tab == 0 for scrolls, tab, _ in found["boxes"] if scrolls) and found["boxes"][-1][2] > 500


def test_a_page_follows_the_width_of_its_window(sweep, tmp_path) -> None:
    ask = """
        const frame = document.querySelector("iframe");
        frame.style.width = "390px";
        page.body.offsetWidth;
        view.dispatchEvent(new Event("resize"));
        return [...page.querySelectorAll(".plot")].map((svg) => svg.getScreenCTM().a);"""
    assert all(scale > 0.9 for scale in seen(sweep, tmp_path, ask))


def test_slices_show_the_search_until_the_evidence_is_asked_for(sweep, tmp_path) -> None:
    ask = """
        const slices = () => [...page.querySelectorAll(".panel")].slice(1, 3).map((panel) =>
            [panel.textContent, [...panel.querySelectorAll("path.mark")].map((each) => each.dataset.id)]);
        const found = [slices()];
        for (const value of ["evidence", "all"]) { choose("in slices", value); found.push(slices()); }
        choose("Trials", "evidence");
        return [...found, slices()];"""
    first, evidence, both, still = seen(sweep, tmp_path, ask)
    of = {phase: set(mine["trial_id"]) for phase, mine in sweep.trials.groupby("phase")}
    for (title, ids), (_, others), (_, every), (_, same) in zip(first, evidence, both, still, strict=True):
        assert "trials of the search" in title and set(ids) == of["search"]
        assert set(others) == of["evidence"] and set(every) == set(same) == of["search"] | of["evidence"]


def test_without_a_search_slices_show_what_there_is_and_nothing_is_asked(sweep, tmp_path) -> None:
    sweep = replace(sweep, trials=sweep.trials[sweep.trials["phase"] == "evidence"])
    ask = """
        return [[...page.querySelectorAll("select")].map((each) => each.getAttribute("aria-label")),
                page.querySelectorAll(".panel")[1].querySelectorAll("path.mark").length];"""
    labels, marks = seen(sweep, tmp_path, ask)
    assert marks == len(sweep.trials) and not {"Trials", "in slices"} & set(labels)


def test_marks_of_a_slice_do_not_cover_each_other(tmp_path) -> None:
    sweep = sweep_of(tmp_path, **{name: Fake(0.5) for name in ARMS.split()[:8]})
    trials = sweep.trials[sweep.trials["seed"] == 0].assign(**{OBJECTIVE: 0.0})
    sweep = replace(sweep, trials=trials)
    ask = """
        return [...page.querySelectorAll(".panel:nth-child(2) path.mark")].map((each) =>
            each.getAttribute("transform").match(/[-.0-9]+/g).slice(0, 2).map(Number));"""
    places = seen(sweep, tmp_path, ask)
    assert len(places) == 24 and len({y for _, y in places}) == 1
    across = sorted(x for x, _ in places)
    assert min(b - a for a, b in pairwise(across)) > 5


def test_a_long_name_of_an_arm_has_room(tmp_path) -> None:
    names = ("mlp_gated_deltanet", "W" * 40, "注意機構" * 10, "🧩" * 13)
    sweep = sweep_of(tmp_path, **{name: Fake(0.5 + 0.1 * i) for i, name in enumerate(names)})
    ask = """
        const svg = [...page.querySelectorAll(".plot")].at(-1), frame = svg.getBoundingClientRect();
        return [...svg.querySelectorAll("text")].map((each) => {
            const box = each.getBoundingClientRect();
            return [each.textContent, box.left >= frame.left - 1, box.right <= frame.right + 1];
        });"""
    found = seen(sweep, tmp_path, ask)
    assert all(left and right for _, left, right in found)
    assert {"mlp_gated_deltanet", "🧩" * 13} <= {text for text, *_ in found}


def test_a_setting_is_told_in_full(tmp_path) -> None:
    sweep = sweep_of(tmp_path, a=Fake(0.5), b=Fake(0.6))
    layers = sweep.trials["arm"].map({"a": 10_255, "b": None})  # b has no such key
    sweep = replace(sweep, trials=sweep.trials.assign(**{"model.layers": layers}))
    ask = """
        const over = new PointerEvent("pointerover", { bubbles: true });
        page.querySelector("path.mark[data-id]").dispatchEvent(over);
        return [page.getElementById("told").textContent, page.querySelectorAll(".lit").length];"""
    text, lit = seen(sweep, tmp_path, ask)
    assert "model.layers 10255" in text and lit > 3


def test_arms_can_be_hidden_down_to_the_last(sweep, tmp_path) -> None:
    ask = """
        const found = [];
        for (const button of page.querySelectorAll("#arms button")) {
            button.click();
            found.push(new Set([...page.querySelectorAll("polyline")].map((each) => each.style.color +
                each.getAttribute("stroke-dasharray"))).size);
        }
        return [...found, page.querySelectorAll(".plot").length];"""
    assert seen(sweep, tmp_path, ask) == [*range(10, -1, -1), 4]


def test_marks_without_room_stay_at_their_value(tmp_path) -> None:
    sweep = sweep_of(tmp_path, **{name: Fake(0.5) for name in (*ARMS.split(), "more")})
    trials = sweep.trials[sweep.trials["seed"] == 0].assign(**{OBJECTIVE: 0.0})
    rates = trials["optim.lr"].replace({0.002: 0.0012})
    sweep = replace(sweep, trials=trials.assign(**{"optim.lr": rates}))
    ask = """
        return [...page.querySelectorAll(".panel:nth-child(2) path.mark")].map((each) =>
            [each.dataset.id, +each.getAttribute("transform").match(/[-.0-9]+/)[0]]);"""
    places: dict[str, list[float]] = {}
    for trial, x in seen(sweep, tmp_path, ask, width=PHONE):
        places.setdefault(trial.split("-d")[1][0], []).append(x)
    first, second, third = (places[draw] for draw in "012")
    assert max(first) < min(second) and max(second) < min(third)


def odd_sweeps(folder: Path) -> dict[str, Sweep]:
    def written(name: str, **changes: Any) -> Sweep:
        arms = changes.pop("arms", {"a": Fake(0.5), "b": Fake(0.6)})
        return load_sweep(write_sweep(folder / name, arms, **changes))

    falling = {"objective": {"metric": OBJECTIVE, "mode": "min"}}
    lost = {"a": Fake(0.5, statuses={0: "failed", 1: "diverged"}), "b": Fake(0.5, statuses={0: "failed"})}
    return {
        "nothing tuned": written("plain"),
        "one arm of one seed": written("one", arms={"a": Fake(0.5)}, seeds=(0,)),
        "sixty arms": written("sixty", arms={f"arm{i}": Fake(0.01 * i) for i in range(60)}),
        "falling": written("falling", space=falling),
        "other scripts": written("scripts", arms={"注意": Fake(0.5), "انتباه": Fake(0.4), "🧩": Fake(0.3)}),
        "lost": written("lost", arms=lost),
    }


def test_odd_sweeps_are_drawn(tmp_path) -> None:
    ask = """
        const all = [...page.querySelectorAll(".plot *")].flatMap((node) => [...node.attributes]);
        return [page.querySelectorAll(".plot").length, page.querySelectorAll("#arms button").length,
                all.filter((each) => /NaN|undefined|Infinity/.test(each.value)).length,
                page.querySelector(".note").textContent.includes("In slices")];"""
    for name, sweep in odd_sweeps(tmp_path).items():
        found = seen(sweep, tmp_path, ask)
        assert found == [2, len(sweep.arms), 0, False], name
