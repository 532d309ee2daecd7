"""Search spaces that cannot be meant: refused in one message, with status 2 and nothing written."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_sweep
from sweeps.running import Run
from tests.conftest import ROOT
from tests.sweeps.spaces import ASHA, TOY, TUNE, write_space

Refuse = Callable[..., str]

TEXT = yaml.safe_dump(TOY, sort_keys=False)
TRM: dict[str, Any] = {
    "trainer": "trm.trainer:train",
    "base": str(ROOT / "search_spaces" / "base" / "smoke_4x4.yaml"),
    "objective": {"metric": "val/exact_accuracy", "mode": "max"},
    "ablate": {"optim.lr": [1e-3, 2e-3]},
}
TRM_ASHA = {"kind": "asha", "metric": "val/cell_accuracy", "grace_period": 6400, "max_t": 25600}


def files_in(folder: Path) -> dict[str, bytes | None]:
    paths = folder.rglob("*")
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.fixture
def refuse(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Refuse:
    """Launch with these arguments in an otherwise untouched folder, and return the one message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(Run, "to_its_end", lambda *_: pytest.fail("the sweep was launched"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))

    def launch(*arguments: str) -> str:
        before = files_in(tmp_path)
        status = run_sweep.main(list(arguments))
        out, err = capsys.readouterr()
        assert (status, out) == (2, "")
        assert err.startswith("run_sweep.py: ") and err.count("run_sweep.py: ") == 1
        assert "Traceback" not in err
        assert files_in(tmp_path) == before
        return err

    return launch


def has(message: str, *words: str) -> None:
    for word in words:
        assert word in message


RUN = Run.to_its_end  # which the fixture replaces

FILES = {
    "empty": ("", ["must be a mapping of keys", "it holds nothing", "docs/search_spaces.md"]),
    "a-list": ("- a\n- b\n", ["must be a mapping of keys", "list"]),
    "not-utf-8": (b"name: \xff\n", ["not UTF-8", "byte 6", "save it as UTF-8"]),
    "tab": (f"{TEXT}x:\n\ty: 1\n", [":20: ", "'\\t'"]),
    "key-twice": (f"{TEXT}seeds: [3]\n", ["duplicate key 'seeds'", "first on line 14", "remove one"]),
    "alias-of-itself": ("ablate: &x {model.kind: *x}\n", [":1: ", "recursive"]),
    "unknown-alias": ("seeds: *x\n", [":1: ", "undefined alias 'x'"]),
    "name-of-another-folder": (TEXT.replace("name: toy", "name: ../x"), ["name: '../x'", "use letters"]),
    "name-is-a-number": (TEXT.replace("name: toy", "name: 5"), ["name: must be a valid string", "5"]),
    "key-that-is-a-number": (f"{TEXT}5: x\n", ["5: keys should be strings"]),
}


@pytest.mark.parametrize(("text", "words"), FILES.values(), ids=FILES)
def test_a_file_that_is_no_search_space(
    refuse: Refuse, tmp_path: Path, text: str | bytes, words: list[str]
) -> None:
    path = tmp_path / "toy.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    has(refuse("toy.yaml"), "toy.yaml", *words)


def test_aliases_of_aliases_are_not_followed_for_ever(refuse: Refuse, tmp_path: Path) -> None:
    lines = ["a0: &a0 {k: 1}"] + [f"a{i}: &a{i} {{x: *a{i - 1}, y: *a{i - 1}}}" for i in range(1, 60)]
    (tmp_path / "toy.yaml").write_text("\n".join(lines))
    has(refuse("toy.yaml"), "toy.yaml", "aliases", "shorten it")


def test_merges_of_merges_are_not_followed_for_ever(
    refuse: Refuse, tmp_path: Path, cpu_second: float
) -> None:
    lines = ["a0: &a0 {k0: 1}"] + [f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}" for i in range(1, 41)]
    (tmp_path / "toy.yaml").write_text("\n".join(lines))
    begin = time.process_time()
    refuse("toy.yaml")
    assert time.process_time() - begin < 2 * cpu_second  # they are 2^40


WHEN_A = {"model.kind": ["a"]}
KINDS = {"model.kind": ["a", "b"]}
FIVE, SIXTEEN = [1, 2, 3, 4, 5], list(range(16))
SEEDED = {
    "trainer": "tests.sweeps.seeded_trainer:train",
    "base": {},
    "ablate": KINDS,
    "seed_keys": ["data.seed"],
}
SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    # names, and keys in general
    "near-miss": ({"sheduler": ASHA}, ["sheduler: unknown key", "'kind': 'asha'", "did you mean scheduler?"]),
    "unknown-design": ({"design": "ful"}, ["design", "'ful'", "'full' or 'one_at_a_time'"]),
    "seeds-are-no-list": ({"seeds": 5}, ["seeds: must be a valid list", "(given 5)"]),
    "negative-margin": (
        {"evidence": {"margin": -0.01}},
        [
            "evidence.margin: is -0.01",
            "above 0",
            "0.01 of a share from 0 to 1 is one point",
            "or leave it out",
        ],
    ),
    "margin-of-nothing": ({"evidence": {"margin": 0}}, ["evidence.margin: is 0", "above 0"]),
    "evidence-misspelt": ({"evidence": {"marign": 1}}, ["evidence.marign", "did you mean evidence.margin?"]),
    "unknown-test": ({"evidence": {"test": "u"}}, ["evidence.test", "'t' or 'permutation'", "'u'"]),
    "looks-that-fall": (
        {"seeds": FIVE, "evidence": {"looks": [4, 3, 5]}},
        ["evidence.looks: [4, 3, 5] must rise", "in order, or auto"],
    ),
    "look-twice": (
        {"seeds": FIVE, "evidence": {"looks": [3, 3, 5]}},
        ["evidence.looks: [3, 3, 5] must rise"],
    ),
    "looks-of-nothing": ({"evidence": {"looks": []}}, ["evidence.looks: [] must rise", "or auto"]),
    "look-at-one-seed": ({"evidence": {"looks": [1, 2]}}, ["evidence.looks", "(given 1)", "equal to 2"]),
    "looks-in-words": (
        {"evidence": {"looks": "all"}},
        ["evidence.looks", "'auto', 'none' or 'anytime'", "'all'"],
    ),
    "looks-beyond-the-seeds": (
        {"seeds": FIVE, "evidence": {"looks": [3, 6]}},
        [
            "evidence.looks: the last of [3, 6] must be the number of seeds, 5",
            "end it with 5",
            "or set looks",
        ],
    ),
    "looks-that-can-never-decide": (
        {"seeds": FIVE, "evidence": {"looks": [3, 5], "test": "permutation"}},
        [
            "evidence.looks: the look at 3 seeds can never decide",
            "two-sample permutation test gives at the least p = 0.1",
            "with 2 comparisons",
            "remove this look, or set test: t",
        ],
    ),
    "looks-at-effects": (
        {"seeds": FIVE, "evidence": {"looks": [3, 5], "question": "effects"}},
        ["evidence.looks: [3, 5] with question effects", "asked once", "remove looks"],
    ),
    "looks-at-spread": (
        {"seeds": SIXTEEN, "evidence": {"looks": [8, 16], "question": "spread"}},
        ["evidence.looks: [8, 16] with question spread", "remove looks"],
    ),
    "looks-at-what-is-stopped": (
        {"scheduler": ASHA, "seeds": FIVE, "evidence": {"looks": [3, 5]}},
        ["evidence.looks: [3, 5]", "stops its arms", "remove looks"],
    ),
    "anytime-without-pairs": (
        {"evidence": {"looks": "anytime"}},
        ["evidence.looks: anytime is for the paired t-test (here: Welch t-test)", "set pairing: paired"],
    ),
    "anytime-of-effects": (
        {"evidence": {"looks": "anytime", "pairing": "paired", "question": "effects"}},
        ["evidence.looks: anytime with question effects", "asked once", "remove looks"],
    ),
    "anytime-of-what-is-stopped": (
        {"scheduler": ASHA, "evidence": {"looks": "anytime", "pairing": "paired"}},
        ["evidence.looks: anytime but a sweep that stops its arms", "remove looks"],
    ),
    "anytime-of-one-seed": (
        {"seeds": [1], "evidence": {"looks": "anytime", "pairing": "paired"}},
        ["evidence.looks: anytime needs 2 seeds or more (given 1)", "add seeds"],
    ),
    "spread-of-few-seeds": (
        {"seeds": FIVE, "evidence": {"question": "spread"}},
        ["evidence.question: spread", "16 seeds or more (given 5)", "add seeds, or set question: baseline"],
    ),
    "effects-one-at-a-time": (
        {"design": "one_at_a_time", "evidence": {"question": "effects"}},
        ["evidence.question: effects", "design is one_at_a_time", "set design: full, or question: baseline"],
    ),
    "unknown-question": (
        {"evidence": {"question": "worst"}},
        ["evidence.question", "'baseline', 'best', 'effects' or 'spread'", "'worst'"],
    ),
    "baseline-seeds-of-pairs": (
        {"evidence": {"baseline_seeds": [7], "pairing": "paired"}},
        [
            "evidence.baseline_seeds: [7]",
            "question baseline with unpaired seeds",
            "baseline, paired",
            "remove",
        ],
    ),
    "baseline-seeds-of-all-pairs": (
        {"evidence": {"baseline_seeds": [7, 8, 9, 10, 11], "question": "best"}},
        ["evidence.baseline_seeds: [7, 8, 9] and more", "(here: best, unpaired): remove it"],
    ),
    "baseline-seeds-of-the-search": (
        {"tune": TUNE, "search": {"seeds": [0, 7]}, "evidence": {"baseline_seeds": [7, 8]}},
        ["evidence.baseline_seeds: [7] are also under search.seeds", "give other numbers"],
    ),
    "baseline-seeds-of-what-is-stopped": (
        {"scheduler": ASHA, "evidence": {"baseline_seeds": [7]}},
        ["evidence.baseline_seeds: [7]", "stops its arms", "remove it"],
    ),
    "baseline-seed-twice": ({"evidence": {"baseline_seeds": [7, 7]}}, ["baseline_seeds", "7 stands twice"]),
    "reserve-of-all": ({"evidence": {"reserve": 0.05}}, ["evidence.reserve", "less than 0.05", "0.05)"]),
    "negative-reserve": (
        {"evidence": {"reserve": -0.01}},
        ["evidence.reserve", "greater than or equal to 0", "(given -0.01)"],
    ),
    "futility-of-a-whole-share": (
        {"objective": {"metric": "accuracy", "mode": "max", "unit": "share"}, "evidence": {"futility": 1.5}},
        ["evidence.futility: is 1.5", "accuracy is a share (0 to 1)", "0.01 is one point"],
    ),
    "negative-futility": ({"evidence": {"futility": -1}}, ["evidence.futility: is -1", "above 0"]),
    # seed_keys
    "seed-key-near-miss": (
        {**SEEDED, "seed_keys": ["data.sed"]},
        ["seed_keys: data.sed: is no key of the config of arm a", "did you mean data.seed?"],
    ),
    "seed-key-of-one-arm": (
        {**SEEDED, "seed_keys": ["model.restart"]},
        ["seed_keys: model.restart: is no key of the config of arm b, and every arm needs it"],
    ),
    "seed-key-that-is-no-integer": (
        {**SEEDED, "seed_keys": ["data.noise"]},
        ["seed_keys: data.noise: becomes 1.0 with the seed 1, in arm a", "as an integer"],
    ),
    "seed-key-that-is-a-switch": (
        {**SEEDED, "seed_keys": ["data.shuffled"]},
        ["seed_keys: data.shuffled: becomes True with the seed 1, in arm a", "as an integer"],
    ),
    "seed-key-that-is-a-word": (
        {**SEEDED, "seed_keys": ["data.name"]},
        ["seed_keys: data.name: must be a valid string (given 1)", "in arm a", "name a key that takes"],
    ),
    "seed-that-the-key-does-not-take": (
        {**SEEDED, "seeds": [1, 5000]},
        ["seed_keys: data.seed: must be less than 1000 (given 5000)", "takes every seed"],
    ),
    "seed-key-that-is-a-factor": (
        {**SEEDED, "ablate": {"data.seed": [1, 2]}},
        ["seed_keys: data.seed: takes the trial's seed, but ablate.data.seed sets data.seed", "remove one"],
    ),
    "seed-key-in-a-level": (
        {**SEEDED, "ablate": {"d": {"levels": {"x": {"data.seed": 1}, "y": {"data.seed": 2}}}}},
        ["seed_keys: data.seed", "ablate.d sets data.seed", "remove one"],
    ),
    "seed-key-that-is-tuned": (
        {**SEEDED, "tune": {"data.seed": {"int": [1, 100]}}, "search": {"draws_per_arm": 2}},
        ["seed_keys: data.seed", "tune.data.seed sets data.seed"],
    ),
    "seed-key-twice": ({**SEEDED, "seed_keys": ["data.seed"] * 2}, ["seed_keys: 'data.seed' stands twice"]),
    "no-pilot": (
        {"evidence": {"pilot": "results/none"}},
        ["evidence.pilot", "results/none is no folder", "give a sweep's results"],
    ),
    "match-of-no-key": ({"match": {"params": 7}}, ["match.by: is required"]),
    "match-by-no-size": (
        {"match": {"params": 9, "by": "lr"}},
        ["match.by: lr: parameters are the same for every value: name a key with which they grow"],
    ),
    "budget-of-nothing": ({"budget": {"wall_h": 0}}, ["budget.wall_h", "greater than 0", "(given 0)"]),
    "budget-misspelt": ({"budget": {"walls_h": 1}}, ["budget.walls_h", "did you mean", "wall_h"]),
    "budget-of-half-a-trial": ({"budget": {"trials": 1.5}}, ["budget.trials", "(given 1.5)"]),
    "no-room-for-checkpoints": ({"max_checkpoint_gb": 0}, ["max_checkpoint_gb", "greater than 0"]),
    # ablate
    "nothing-to-compare": ({"ablate": None}, ["nothing to compare", "add ablate, or tune"]),
    "factor-without-values": ({"ablate": {"model.kind": []}}, ["ablate.model.kind.values", "at least 1"]),
    "factor-is-a-scalar": (
        {"ablate": {"model.kind": "a"}},
        ["ablate.model.kind: must be a list of levels", "'a'"],
    ),
    "level-twice": ({"ablate": {"model.kind": ["a", "a"]}}, ["ablate.model.kind", "'a' stands twice"]),
    "level-sets-nothing": ({"ablate": {"w": {"levels": {"x": {}}}}}, ["ablate.w", "'x' sets nothing"]),
    "values-and-levels": (
        {"ablate": {"w": {"values": [1], "levels": {"x": {"lr": 1}}}}},
        ["ablate.w", "either values or levels"],
    ),
    "level-out-of-range": ({"ablate": {"model.kind": ["a", "z"]}}, ["ablate", "model.kind", "'z'", "'d'"]),
    "factor-near-miss": ({"ablate": {"model.knid": ["a", "b"]}}, ["model.knid", "mean model.kind?"]),
    "factor-through-a-value": ({"ablate": {"lr.x": [1, 2]}}, ["lr.x", "0.1", "set lr itself"]),
    "two-factors-set-one-key": (
        {"ablate": {**KINDS, "w": {"levels": {"x": {"model.kind": "c"}, "y": {"model.kind": "d"}}}}},
        ["ablate.w", "model.kind", "let one factor set it"],
    ),
    "factor-inside-a-factor": (
        {"ablate": {"model": [{"kind": "a"}, {"kind": "b"}], "model.bonus": [0, 1]}},
        ["ablate.model.bonus", "model", "let one factor set it"],
    ),
    "arms-of-one-name": (
        {"ablate": {"fail_once": ["a b", "a_b"]}},
        ["ablate", "a_b", "give their levels names"],
    ),
    "too-many-arms": (
        {"ablate": {"model.bonus": [i / 100 for i in range(100)], "lr": [i / 100 for i in range(100)]}},
        ["ablate", "1,000 arms", "remove"],
    ),
    # when
    "when-of-an-unknown-key": (
        {"ablate": {**KINDS, "lr": {"values": [0.1, 0.2], "when": {"modle.kind": ["a"]}}}},
        ["ablate.lr.when.modle.kind", "did you mean model.kind?"],
    ),
    "when-of-an-unknown-level": (
        {"ablate": {**KINDS, "lr": {"values": [0.1, 0.2], "when": {"model.kind": ["z"]}}}},
        ["ablate.lr.when.model.kind", "'z' is not a level", "['a', 'b']"],
    ),
    "when-never-met": (
        {"ablate": {**KINDS, "lr": {"values": [0.1, 0.2], "when": {"max_samples": [5]}}}},
        ["ablate.lr", "`when` is never met", "change or remove it"],
    ),
    "when-in-a-circle": (
        {
            "ablate": {
                "model.kind": {"values": ["a", "b"], "when": {"lr": [0.1]}},
                "lr": {"values": [0.1, 0.2], "when": WHEN_A},
            }
        },
        ["ablate", "model.kind and lr", "remove one of these conditions"],
    ),
    "tuned-when-never-met": (
        {"tune": {"lr": {"uniform": [0.1, 0.2], "when": {"model.kind": ["d"]}}}},
        ["tune.lr", "`when` is met by no arm"],
    ),
    # tune, search
    "tuned-and-compared": (
        {"ablate": {"lr": [0.1, 0.2]}, "tune": TUNE},
        ["tune.lr", "ablate", "one of the two"],
    ),
    "tuned-and-in-a-level": (
        {"ablate": {"w": {"levels": {"x": {"lr": 0.1}, "y": {"lr": 0.2}}}}, "tune": TUNE},
        ["tune.lr", "factor w", "one of the two"],
    ),
    "domain-near-miss": (
        {"tune": {"lr": {"logunifrom": [0.1, 1]}}},
        ["tune.lr.logunifrom", "mean tune.lr.loguniform?"],
    ),
    "domain-is-a-list": ({"tune": {"lr": [0.1, 1]}}, ["tune.lr: must be a mapping", "[0.1, 1]"]),
    "domain-of-two-kinds": (
        {"tune": {"lr": {"uniform": [0, 1], "choice": [1]}}},
        ["tune.lr", "exactly one of", "uniform, choice"],
    ),
    "domain-upside-down": (
        {"tune": {"lr": {"uniform": [1, 0.1]}}},
        ["tune.lr", "low must be below high", "[1.0, 0.1]"],
    ),
    "logarithm-of-zero": ({"tune": {"lr": {"loguniform": [0, 1]}}}, ["tune.lr", "above 0", "drop the log"]),
    "choice-of-nothing": ({"tune": {"lr": {"choice": []}}}, ["tune.lr.choice", "at least 1"]),
    "tuned-near-miss": ({"tune": {"lrr": {"uniform": [0, 1]}}}, ["lrr: unknown key", "did you mean lr?"]),
    "choice-that-does-not-fit": (
        {"tune": {"lr": {"choice": ["x", 1]}}, "search": {"algorithm": "tpe", "draws_per_arm": 20}},
        ["lr: must be a valid number", "'x'"],
    ),
    "draws-that-repeat": (
        {"tune": {"lr": {"choice": [0.1, 0.2]}}, "search": {"draws_per_arm": 8}},
        ["tune", "two draws", "grid"],
    ),
    "smoothed-under-tpe": (
        {"tune": TUNE, "search": {"algorithm": "tpe", "draws_per_arm": 20, "choose": "smoothed"}},
        ["search", "smoothed is not for tpe", "sobol"],
    ),
    "smoothed-over-a-choice": (
        {"tune": {"lr": {"choice": [0.1, 0.2]}}, "search": {"algorithm": "grid", "choose": "smoothed"}},
        ["tune.lr: is a choice", "search.choose", "best"],
    ),
    "smoothed-with-when": (
        {
            "tune": {"lr": {"uniform": [0.1, 0.2], "when": WHEN_A}},
            "search": {"draws_per_arm": 12, "choose": "smoothed"},
        },
        ["tune.lr: has a `when`", "search.choose", "best"],
    ),
    "smoothed-over-few-draws": (
        {"tune": TUNE, "search": {"draws_per_arm": 11, "choose": "smoothed"}},
        ["search.choose", "12 draws", "(given 11)", "more draws"],
    ),
    "smoothed-over-a-small-grid": (
        {"tune": {"max_samples": {"int": [101, 111]}}, "search": {"algorithm": "grid", "choose": "smoothed"}},
        ["search.choose", "12 draws", "(given 11)"],
    ),
    "search-without-tune": ({"search": {"keep": 1}}, ["search", "without tune", "remove search"]),
    "keep-more-than-there-are": ({"tune": TUNE, "search": {"keep": 9}}, ["search", "keep is 9", "is 8"]),
    "no-draws": ({"tune": TUNE, "search": {"draws_per_arm": 0}}, ["search.draws_per_arm", "(given 0)"]),
    "grid-of-reals": ({"tune": TUNE, "search": {"algorithm": "grid"}}, ["tune.lr", "no grid", "sobol"]),
    "grid-too-large": (
        {"tune": {"max_samples": {"int": [1, 100_000]}}, "search": {"algorithm": "grid"}},
        ["tune", "100,000 points", "use sobol"],
    ),
    # seeds
    "no-seeds": ({"seeds": []}, ["seeds", "at least 1", "[]"]),
    "negative-seed": ({"seeds": [1, -1]}, ["seeds.1", "greater than or equal to 0", "-1"]),
    "seed-beyond-64-bits": ({"seeds": [2**63]}, ["seeds.0", "less than", str(2**63)]),
    "no-search-seeds": ({"tune": TUNE, "search": {"seeds": []}}, ["search.seeds", "at least 1"]),
    "search-seed-twice": ({"tune": TUNE, "search": {"seeds": [0, 0]}}, ["search", "0 stands twice"]),
    "seeds-of-search-and-evidence": (
        {"tune": TUNE, "seeds": [0, 1]},
        ["seeds: [0]", "search.seeds", "give other numbers"],
    ),
    # objective
    "objective-that-is-no-name": (
        {
            "trainer": "tests.sweeps.execute.unruly_trainer:train",  # it does not say what it reports
            "base": {},
            "ablate": {"does": ["nothing", "prints"]},
            "objective": {"metric": "../x", "mode": "max"},
        },
        ["objective.metric", "'../x'", "not a name that MLflow accepts"],
    ),
    "metric-not-reported": (
        {"objective": {"metric": "acuracy", "mode": "max"}},
        ["objective.metric", "'acuracy'", "toy_trainer:train", "did you mean accuracy?"],
    ),
    "unknown-unit": (
        {"objective": {"metric": "accuracy", "mode": "max", "unit": "%"}},
        ["objective.unit", "'share', 'percent' or 'none'", "'%'"],
    ),
    "margin-of-a-whole-share": (
        {"objective": {"metric": "accuracy", "mode": "max", "unit": "share"}, "evidence": {"margin": 1}},
        ["evidence.margin: is 1", "accuracy is a share (0 to 1)", "0.01 is one point"],
    ),
    "metric-with-the-name-of-a-factor": (
        {"ablate": {"total": {"levels": {"x": {"lr": 0.1}, "y": {"lr": 0.2}}}}},
        ["the metric: 'total'", "also the name of ablate.total", "rename the metric"],
    ),
    "objective-without-mode": ({"objective": {"metric": "accuracy"}}, ["objective.mode: is required"]),
    "search-on-the-test-split": (
        {"tune": TUNE, "objective": {"metric": "test/accuracy", "mode": "max"}},
        ["objective.metric", "'test/accuracy'", "use val/"],
    ),
    "stopping-on-the-test-split": (
        {"scheduler": ASHA | {"metric": "test/accuracy"}},
        ["scheduler.metric", "'test/accuracy'", "use val/"],
    ),
    # scheduler
    "unknown-scheduler": ({"scheduler": {"kind": "ahsa"}}, ["scheduler.kind", "'ahsa'", "'asha'"]),
    "max_t-below-grace_period": (
        {"scheduler": ASHA | {"grace_period": 200}},
        ["scheduler", "grace_period is 200", "max_t is 100", "lower grace_period"],
    ),
    "horizon-below-grace_period": (
        {"scheduler": {"kind": "asha", "grace_period": 150}},
        ["scheduler.grace_period", "150", "ends at 100", "lower it"],
    ),
    "no-grace_period": ({"scheduler": {"kind": "asha"}}, ["scheduler", "needs grace_period above 0"]),
    "factor-of-one": (
        {"scheduler": ASHA | {"reduction_factor": 1}},
        ["scheduler.reduction_factor", "greater than 1"],
    ),
    "stopping-by-the-clock": (
        {"scheduler": ASHA | {"time_attr": "wall_s"}},
        ["scheduler", "time_attr is wall_s", "use samples"],
    ),
    "key-of-another-scheduler": (
        {"scheduler": ASHA | {"keep": 1}},
        ["scheduler.keep", "fixed", "asha", "remove keep"],
    ),
    "infinite-horizon": (
        {"scheduler": ASHA | {"max_t": float("inf")}},
        ["scheduler.max_t", "finite", "inf"],
    ),
    "mode-of-another-metric": (
        {"scheduler": ASHA | {"metric": "loss"}},
        ["scheduler.mode", "loss", "give min or max"],
    ),
    "factor-sets-the-horizon": (
        {"ablate": {"max_samples": [50, 100]}, "scheduler": ASHA},
        ["max_samples is 50", "scheduler.max_t", "100"],
    ),
    # resources
    "no-cpu": ({"resources": {"cpu": 0}}, ["resources.cpu", "0.0001", "(given 0)"]),
    "gpu-in-words": ({"resources": {"gpu": "all"}}, ["resources.gpu", "auto", "'all'"]),
    "negative-gpu": ({"resources": {"gpu": -1}}, ["resources.gpu", "0 or more"]),
    "rungs-without-end": (
        {"scheduler": {"kind": "asha", "grace_period": 20, "reduction_factor": 1.0001}},
        ["scheduler.grace_period", "16,095 rungs", "reduction_factor"],
    ),
    "a-rung-at-every-sample": (
        {"scheduler": {"kind": "median", "grace_period": 0.01}},
        ["scheduler.grace_period", "10,000 rungs"],
    ),
    "audit-of-all": (
        {"scheduler": {"kind": "asha", "grace_period": 20, "audit": 1}},
        ["scheduler.audit", "less than 1"],
    ),
    "gpu-and-a-half": ({"resources": {"gpu": 1.5}}, ["resources.gpu", "1.5", "round it"]),
    "negative-max_concurrent": ({"max_concurrent": -2}, ["max_concurrent", "-2", "'auto'"]),
    "less-cpu-than-ray-counts": ({"resources": {"cpu": 0.00005}}, ["resources.cpu", "0.0001"]),
    "endless-max_silence_s": ({"max_silence_s": 1e12}, ["max_silence_s", "604800"]),
    "negative-max_failures": ({"max_failures": -1}, ["max_failures", "-1"]),
    "no-max_silence_s": ({"max_silence_s": 0}, ["max_silence_s", "0"]),
    # base
    "missing-base": ({"base": "missing.yaml"}, ["base", "no file missing.yaml", "relative to toy.yaml"]),
    "base-is-a-folder": ({"base": "."}, ["base", "give a path"]),
    "base-near-miss": ({"base": {"lrr": 1}}, ["base: lrr: unknown key", "(given 1)", "did you mean lr?"]),
    # trainer
    "trainer-without-colon": ({"trainer": "toy"}, ["trainer", "'toy'", "package.module:function"]),
    "no-such-module": ({"trainer": "nowhere.toy:train"}, ["trainer", "no module 'nowhere'", "spelling"]),
    "no-such-function": (
        {"trainer": "tests.sweeps.toy_trainer:trian"},
        ["trainer", "'trian'", "did you mean train?"],
    ),
    "no-trainer": (
        {"trainer": "json:loads"},
        ["trainer: json:loads", "pydantic model", "annotate the first"],
    ),
}


@pytest.mark.parametrize(("changes", "words"), SPACES.values(), ids=SPACES)
def test_a_space_of_a_foreign_trainer(
    refuse: Refuse, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    write_space(tmp_path, **changes)
    has(refuse("toy.yaml"), "toy.yaml: ", *words)


def level(kind: str, **more: Any) -> dict[str, Any]:
    return {"model.mixer.kind": kind} | {f"model.mixer.{key}": value for key, value in more.items()}


TRM_SPACES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "unknown-mixer": (
        {"ablate": {"model.mixer.kind": ["mlp", "mambaa"]}},
        ["ablate", "model.mixer.kind: unknown", "'mambaa'", "did you mean mamba?"],
    ),
    "heads-that-do-not-divide": (
        {"ablate": {"m": {"levels": {n: level("attention", num_heads=int(n)) for n in ("4", "5")}}}},
        ["model.mixer.num_heads is 5", "hidden_size, 32", "give one of 1, 2, 4"],
    ),
    "two-arms-that-do-not-fit": (
        {
            "ablate": {
                "model.mixer.kind": ["attention", "rwkv7", "mamba3"],
                "model.mixer.head_size": {"values": [48], "when": {"model.mixer.kind": ["rwkv7"]}},
                "model.mixer.headdim": {"values": [48], "when": {"model.mixer.kind": ["mamba3"]}},
                "optim.lr": [1e-3, 2e-3],
            }
        },
        [
            "model.mixer.kind = 'rwkv7', model.mixer.head_size = 48",
            "model.mixer.head_size is 48, which does not divide the 28 channels",
            "give one of 1, 2, 4, 7, 14, 28, or expand 1.5 (1 other arm has the same error)\n",
            "model.mixer.kind = 'mamba3', model.mixer.headdim = 48",
            "model.mixer.headdim is 48, which does not divide the 40 channels",
        ],
    ),
    "two-arms-that-do-not-fit-one-at-a-time": (
        {
            "design": "one_at_a_time",
            "ablate": {"model.hidden_size": [32, 33.5, 34.5], "optim.lr": [1e-3, -1.0]},
        },
        ["(given 33.5)", "(given 34.5)", "optim.lr: must be greater than 0 (given -1.0)"],
    ),
    "two-arms-under-a-when-of-the-config": (
        {
            "ablate": {
                "m": {"levels": {n: level("attention", num_heads=int(n)) for n in ("4", "5", "6")}},
                "optim.lr": {"values": [1e-3, 2e-3], "when": {"model.mixer.num_heads": [4]}},
            }
        },
        ["model.mixer.num_heads is 5", "model.mixer.num_heads is 6"],
    ),
    "two-arms-whose-warm-up-is-too-long": (
        {"ablate": {"optim.lr_warmup_steps": [100, 110]}, "scheduler": TRM_ASHA},
        ["arm lr_warmup_steps=100", "warm-up lasts 6400", "arm lr_warmup_steps=110", "warm-up lasts 7040"],
    ),
    "heads-for-an-mlp": (
        {"ablate": {"model.mixer.kind": ["attention", "mlp"], "model.mixer.num_heads": [4, 8]}},
        ["model.mixer.num_heads: unknown key", "'mlp'", "when: "],
    ),
    "expansion-that-changes-nothing": (
        {"ablate": {"model.expansion": [2, 4]}},
        ["ablate.model.expansion: changes nothing", "expansion=2 and expansion=4", "remove a level"],
    ),
    "positions-that-an-mlp-ignores": (
        {"ablate": {"model.pos_encodings": ["none", "rope"]}},
        ["ablate.model.pos_encodings: changes nothing", "'none' and 'rope'"],
    ),
    "rung-in-the-warm-up": (
        {"scheduler": TRM_ASHA | {"grace_period": 3200}},
        ["scheduler.grace_period", "3200 samples", "warm-up lasts 3200", "raise it"],
    ),
    "rung-in-the-warm-up-in-flops": (
        {"scheduler": TRM_ASHA | {"time_attr": "flops", "grace_period": 1e6, "max_t": 1e12}},
        ["scheduler.grace_period", "1e+06 flops", "raise it"],
    ),
    "horizon-in-the-warm-up": (
        {"scheduler": {"kind": "fifo", "max_t": 64}},
        ["scheduler.max_t", "optim.lr_warmup_steps is 50", "lengthen it"],
    ),
    "off-is-no-number": (
        {"ablate": {"optim.lr": ["off", 1e-3]}},
        ["optim.lr: must be a valid number", "'off'"],
    ),
    "false-is-not-off": (
        {"ablate": {"train.compile": [False, "on"]}},
        ["train.compile: must be 'auto', 'on' or 'off'", "(given False)"],
    ),
    "more-4x4-puzzles-than-there-are": (
        {"ablate": {"data.num_train": [1000, 100_000]}},
        ["data", "100800 puzzles of 4x4", "lower them"],
    ),
}


@pytest.mark.parametrize(("changes", "words"), TRM_SPACES.values(), ids=TRM_SPACES)
def test_a_space_of_trms_own_trainer(
    refuse: Refuse, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    write_space(tmp_path, **TRM | changes)
    has(refuse("toy.yaml"), "toy.yaml: ", *words)


GOOD_ROW = "x,.234341221434321,1234341221434321,1"
ROWS = {
    "wrong-length": ("x,123,1234341221434321,1", ["question has 3 characters", "'123'", "correct the row"]),
    "two-solutions": (f"x,{'.' * 16},1234341221434321,1", ["more than one solution", "add clues"]),
    "clue-against-the-answer": (
        "x,2234341221434321,1234341221434321,1",
        ["clue 2 at row 1, column 1 contradicts the answer", "correct one of them"],
    ),
    "answer-against-the-rules": ("x,.234341221434321,1134341221434321,1", ["row 1 has 1 twice", "correct"]),
    "digit-too-large": ("x,.934341221434321,1234341221434321,1", ["'9' at character 2", "1 to 4"]),
    "field-missing": ("x,.234341221434321", ["2 fields", "source, question, answer, rating"]),
}


@pytest.mark.parametrize(("row", "words"), ROWS.values(), ids=ROWS)
def test_puzzles_that_cannot_be_used(refuse: Refuse, tmp_path: Path, row: str, words: list[str]) -> None:
    header = "source,question,answer,rating"
    (tmp_path / "train.csv").write_text(f"{header}\n{GOOD_ROW}\n{row}\n")
    (tmp_path / "test.csv").write_text(f"{header}\nx,..34341221434321,1234341221434321,1\n")
    write_space(tmp_path, **TRM)
    data = "{task: sudoku, source: csv, size: 4, train: train.csv, test: test.csv, num_val: 1}"
    has(refuse("toy.yaml", "--set", f"data={data}"), "toy.yaml: data: ", "train.csv:3: ", *words)


BASES = {
    "a-list": (b"- 1\n", ["base.yaml: must be a mapping"]),
    "not-utf-8": (b"\xff", ["base.yaml: is not UTF-8", "save it as UTF-8"]),
    "key-twice": (b"lr: 1\nlr: 2\n", ["base.yaml:2: ", "duplicate key 'lr'", "line 1"]),
    "near-miss": (b"model: {knid: a}\n", ["base", "model.knid: unknown key", "did you mean model.kind?"]),
}


@pytest.mark.parametrize(("text", "words"), BASES.values(), ids=BASES)
def test_a_base_that_cannot_be_used(refuse: Refuse, tmp_path: Path, text: bytes, words: list[str]) -> None:
    (tmp_path / "base.yaml").write_bytes(text)
    write_space(tmp_path, base="base.yaml")
    has(refuse("toy.yaml"), *words)


CONFIG = """from __future__ import annotations
import os
from pydantic import BaseModel
class Config(BaseModel): lr: float = 1
def train(config: Config, trial): ...
"""
TRAINERS = {
    "no-annotation": ("def train(config, trial): ...", ["pydantic model", "config, trial", "annotate"]),
    "unknown-annotation": (f"{CONFIG}def train(config: Nope, trial): ...", ["annotations", "'Nope'", "fix"]),
    "breaks-at-import": (
        "raise RuntimeError('broken')",
        ["importing it failed", "broken", "fix the module"],
    ),
    "syntax-error": ("def train(", ["importing it failed", "SyntaxError", "line 1"]),
    "describe-breaks": (
        f"{CONFIG}def describe(config): 1 / 0",
        ["describe(config) failed", "fix or remove it"],
    ),
    "horizon-is-no-key": (
        f"{CONFIG}def describe(config): return {{'horizon_key': 'steps'}}",
        ["horizon_key steps", "name the key"],
    ),
    "check-refuses": (f"{CONFIG}def check(config): raise ValueError('no puzzles')", ["data: no puzzles"]),
}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        *(pytest.param(*case, id=name) for name, case in TRAINERS.items()),
        pytest.param(f"{CONFIG}def train(config: os.Nope, trial): ...", ["Nope"], id="no-attribute"),
        pytest.param(
            f"{CONFIG}def check(config): raise KeyError('rows')",
            ["rows"],
            id="check-breaks",
        ),
    ],
)
def test_a_trainer_that_cannot_be_used(
    refuse: Refuse, tmp_path: Path, request: pytest.FixtureRequest, code: str, words: list[str]
) -> None:
    module = "trainer_" + request.node.callspec.id.replace("-", "_")
    (tmp_path / f"{module}.py").write_text(code)
    objective = {"metric": "accuracy", "mode": "max"}
    write_space(tmp_path, trainer=f"{module}:train", base={}, ablate={"lr": [1, 2]}, objective=objective)
    has(refuse("toy.yaml"), "toy.yaml: ", *words)


ARGUMENTS: dict[str, tuple[list[str], list[str]]] = {
    "set-of-an-unknown-key": (["--set", "lrr=1"], ["--set", "lrr: unknown key", "did you mean lr?"]),
    "set-of-a-wrong-type": (["--set", "lr=abc"], ["--set", "lr: must be a valid number", "'abc'"]),
    "set-without-value": (["--set", "lr"], ["--set lr", "path=value"]),
    "ray-client": (["--address", "ray://10.0.0.1:10001"], ["--address ray://10.0.0.1:10001", "HOST:PORT"]),
    "webhook-of-no-kind": (["--notify", "hooks.example.org/T0K3N"], ["--notify", "takes a POST"]),
    "storage-of-no-kind": (["--storage", "s4://bucket"], ["--storage s4://bucket", "cannot be reached"]),
    "extend-what-is-not-there": (["--extend"], ["--extend: there is no sweep in", "launch it first"]),
    "set-without-key": (["--set", "=5"], ["--set =5", "path=value"]),
    "set-of-half-a-list": (["--set", "lr=[1"], ["--set lr=[1", "'[1'"]),
    "set-of-a-section": (["--set", "model=5"], ["--set", "model: must be a mapping", "(given 5)"]),
    "set-of-what-every-arm-sets": (
        ["--set", "model.kind=d"],
        ["--set model.kind=d", "changes nothing", "edit the search space"],
    ),
    "set-of-the-search-space": (
        ["--set", "seeds=[1]"],
        ["--set seeds", "is a key of the search space", "set one of"],
    ),
    "name-of-another-folder": (["--name", "../x"], ["name: '../x'", "cannot name a folder", "use letters"]),
    "resume-of-nothing": (["--resume"], ["--resume", "no sweep in", "launch it first"]),
}


@pytest.mark.parametrize(("arguments", "words"), ARGUMENTS.values(), ids=ARGUMENTS)
def test_arguments_that_cannot_be_meant(
    refuse: Refuse, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    write_space(tmp_path)
    has(refuse("toy.yaml", *arguments), *words)


def test_set_of_the_horizon_that_the_scheduler_sets(refuse: Refuse, tmp_path: Path) -> None:
    write_space(tmp_path, scheduler=ASHA)
    has(refuse("toy.yaml", "--set", "max_samples=50"), "max_samples=50", "changes nothing", "scheduler.max_t")


def test_set_of_a_seed_key(refuse: Refuse, tmp_path: Path) -> None:
    write_space(tmp_path, **SEEDED)
    message = refuse("toy.yaml", "--set", "data.seed=5")
    has(message, "toy.yaml: seed_keys: data.seed: takes the trial's seed, but --set sets data.seed", "remove")


def test_a_search_space_that_is_missing(refuse: Refuse) -> None:
    has(refuse("toy.yaml"), "toy.yaml: no such file", "check the path")


TWO_MINDS = [
    pytest.param({"seeds": [1, 1]}, ["seeds: 1 stands twice"], id="seed-twice"),
    pytest.param(
        {"max_concurrent": 0},
        ["max_concurrent: must be"],
        id="max_concurrent-of-zero",
    ),
    pytest.param(
        {"ablate": {"lr": [1, True]}},
        ["ablate.lr: changes nothing"],
        id="one-and-true",
    ),
    pytest.param(
        {"ablate": {"model.kind": {"values": ["a", "b"], "when": WHEN_A}}},
        ["ablate.model.kind", "when"],
        id="when-of-itself",
    ),
    pytest.param(
        {
            "tune": {
                "lr": {"loguniform": [0.1, 0.2]},
                "model.bonus": {"choice": [0, 1], "when": {"lr": [0.1]}},
            },
        },
        ["tune.model.bonus.when.lr", "single values of it cannot be named", "choice"],
        id="when-of-a-tuned-real-number",
    ),
    pytest.param(
        {
            "ablate": {"model.kind": {"values": ["a", "b"], "when": {"lr": [0.1]}}},
            "tune": {"lr": {"choice": [0.1, 0.2]}},
        },
        ["ablate.model.kind.when.lr", "is a tuned value"],
        id="factor-when-of-what-is-tuned",
    ),
    pytest.param(
        {"tune": {"lr": {"choice": [0.1, 0.2]}, "model.bonus": {"uniform": [0, 1], "when": {"lr": [0.3]}}}},
        ["tune.model.bonus.when.lr", "0.3 is never drawn", "[0.1, 0.2]"],
        id="when-of-a-value-that-is-never-drawn",
    ),
    pytest.param(
        {
            "tune": {
                "lr": {"choice": [0.1, 0.2], "when": {"model.bonus": [0]}},
                "model.bonus": {"choice": [0, 1], "when": {"lr": [0.1]}},
            }
        },
        ["tune", "lr and model.bonus depend on each other"],
        id="tuned-values-wait-for-each-other",
    ),
    pytest.param(
        {"resources": {"cpu": 1, "per_arm": [{"when": {"model.kind": ["z"]}, "cpu": 2}]}},
        ["resources.per_arm.0.when.model.kind", "'z' is not a level"],
        id="resources-of-no-arm",
    ),
]


@pytest.mark.parametrize(("changes", "words"), TWO_MINDS)
def test_a_space_that_says_two_things(
    refuse: Refuse, tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    write_space(tmp_path, **changes)
    has(refuse("toy.yaml"), "toy.yaml: ", *words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(
            ["--max-concurrent", "-3"],
            ["--max-concurrent", "-3"],
            id="negative-max-concurrent",
        ),
        pytest.param(
            ["--set", "model.kind=a"],
            ["--set model.kind=a", "changes nothing"],
            id="set-to-a-level-that-some-arm-has",
        ),
        pytest.param(["--set", f"lr={'1' * 5000}"], ["--set lr=1"], id="set-of-5000-digits"),
    ],
)
def test_arguments_that_should_be_refused(
    refuse: Refuse, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    write_space(tmp_path)
    has(refuse("toy.yaml", *arguments), *words)


@pytest.mark.parametrize("left", ["", "a: [\n", "resolved: {}\n"], ids=["empty", "torn", "without-hash"])
def test_results_that_cannot_be_read(refuse: Refuse, tmp_path: Path, left: str) -> None:
    folder = tmp_path / "results" / "toy"
    folder.mkdir(parents=True)
    (folder / "sweep.yaml").write_text(left)
    write_space(tmp_path)
    has(refuse("toy.yaml"), "sweep.yaml")


def test_storage_that_is_a_file(refuse: Refuse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_space(tmp_path)
    monkeypatch.setattr(Run, "to_its_end", RUN)
    has(refuse("toy.yaml", "--storage", "toy.yaml"), "--storage", "toy.yaml")
