from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from trm.checkpoint import (
    FILE,
    RESUME_FILE,
    CheckpointError,
    load_checkpoint,
    load_to_resume,
    save_checkpoint,
)
from trm.config import TrialConfig
from trm.evaluate import depth_metrics, run_rows, run_test_rows
from trm.loop import Trainer
from trm.trained import load
from trm.trainer import describe, train

ROWS = {"num_train": 50, "num_val": 30, "num_test": 20}
TIMES = ("wall_s", "samples_per_s")


def make_config(kind: str = "mlp", **changes: Any) -> TrialConfig:
    tree: dict[str, Any] = {
        "model": {
            "hidden_size": 16, "num_layers": 1, "h_cycles": 2, "l_cycles": 1, "halt_max_steps": 3,
            "puzzle_emb_len": 1, "halt_exploration_prob": 0.5, "mixer": {"kind": kind},
        },
        "data": {"task": "sudoku", "source": "embedded", "size": 4, **ROWS},
        "optim": {"lr": 1e-3, "lr_warmup_steps": 4, "lr_min_ratio": 0.1, "ema_decay": 0.9},
        "train": {"batch_size": 16, "max_samples": 16 * 20},
        "eval": {"every_samples": 16 * 5, "val_rows": 16, "batch_size": 10, "depth_steps": 4,
                 "depth_rows": 12},
    }  # fmt: skip
    tree["model"]["mixer"] |= {"attention": {"num_heads": 2}, "mamba2": {"headdim": 4}}.get(kind, {})
    for group, values in changes.items():
        tree[group] |= values
    return TrialConfig.model_validate(tree)


def test_shares_and_nothing_else_have_a_unit() -> None:
    known = describe(make_config())
    assert set(known["units"].values()) == {"share"} and set(known["units"]) <= set(known["metrics"])
    plain = set(known["metrics"]) - set(known["units"])
    counts = {"step", "samples", "flops", "wall_s", "samples_per_s", "lr", "chosen_step", "train/halt_steps"}
    counts |= {"compiled_training", "compiled_evaluation"}
    assert {name for name in plain if "loss" not in name and "rows_rating" not in name} == counts


class Killed(BaseException):
    pass


class FakeTrial:
    """Keeps every report's metrics and checkpoint; can end the run after a report, as a scheduler would."""

    def __init__(
        self, folder: Path, checkpoint: Path | None = None, end_after: int = 0, seed: int = 3
    ) -> None:
        self.folder, self.checkpoint, self.end_after = folder, checkpoint, end_after
        self.seed, self.device = seed, "cpu"
        self.rows: list[dict[str, float]] = []
        self.given: list[Path] = []

    def report(self, metrics: dict[str, float], checkpoint: str | Path | None = None) -> None:
        assert checkpoint is not None
        self.rows.append(metrics)
        self.given.append(Path(checkpoint))
        shutil.copytree(checkpoint, self.folder / str(metrics["step"]))
        if len(self.rows) == self.end_after:
            raise Killed


class SavingTrial(FakeTrial):
    """Has the trainer write each checkpoint where it is kept."""

    saves_in_place = True

    def report(self, metrics: dict[str, float], checkpoint: Callable[[Path], object]) -> None:  # type: ignore[override]
        self.rows.append(metrics)
        checkpoint(self.folder / str(metrics["step"]))


def format_1(folder: Path) -> dict[str, Any]:
    """What an older version had in its one file."""
    return load_to_resume(folder, "cpu") | {"format": 1}


def untimed(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.mark.parametrize(
    ("kind", "model"),
    [
        *((kind, {}) for kind in ("mlp", "attention", "mamba", "mamba2")),
        ("mlp", {"latents": "multi_scale", "l_cycles": 2, "act": "continue"}),
        ("mlp", {"latents": "single", "act": "none"}),
        ("attention", {"networks": "separate", "gradient": "one_step", "act": "continue"}),  # HRM
        ("mlp", {"latent_noise": 0.1, "latent_dropout": 0.1, "damping": 0.2, "swiglu": "conv"}),
    ],
)
def test_resumed_equals_uninterrupted_bit_by_bit(tmp_path: Path, kind: str, model: dict[str, Any]) -> None:
    config = make_config(kind, train={"max_samples": 16 * 12}, eval={"every_samples": 16 * 3})
    config = config.model_validate(config.model_dump() | {"model": config.model.model_dump() | model})
    whole = FakeTrial(tmp_path / "whole")
    train(config, whole)
    assert [row["step"] for row in whole.rows] == [3, 6, 9, 12]

    killed = FakeTrial(tmp_path / "killed", end_after=2)
    with pytest.raises(Killed):
        train(config, killed)
    resumed = FakeTrial(tmp_path / "resumed", checkpoint=killed.folder / "6")
    train(config, resumed)

    assert untimed(killed.rows + resumed.rows) == untimed(whole.rows)
    assert resumed.rows[0]["wall_s"] > killed.rows[-1]["wall_s"]
    ends = [load_checkpoint(trial.folder / "12", "cpu") for trial in (whole, resumed)]
    for part in (lambda end: end["model"], lambda end: end["chosen"]["weights"]):
        for name, tensor in part(ends[0]).items():
            assert torch.equal(tensor, part(ends[1])[name]), name


def test_a_checkpoint_of_an_older_version_goes_on_bit_by_bit(tmp_path: Path) -> None:
    config = make_config(train={"max_samples": 16 * 10})
    whole = FakeTrial(tmp_path / "whole")
    train(config, whole)
    save_checkpoint(tmp_path / "old", format_1(whole.folder / "5"))
    assert [path.name for path in (tmp_path / "old").iterdir()] == [FILE]
    resumed = FakeTrial(tmp_path / "resumed", checkpoint=tmp_path / "old")
    train(config, resumed)
    assert untimed(resumed.rows) == untimed(whole.rows[1:])


def test_a_checkpoint_is_written_where_it_is_kept_and_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config(train={"max_samples": 16 * 5})
    copied = FakeTrial(tmp_path / "copied")
    train(config, copied)
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)  # none is made
    saved = SavingTrial(tmp_path / "saved")
    train(config, saved)
    files = [FILE, RESUME_FILE]
    for trial in (copied, saved):
        folder = trial.folder / "5"
        assert [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*.pt"))] == files
    states = [load_to_resume(trial.folder / "5", "cpu") for trial in (copied, saved)]
    assert states[0].keys() == states[1].keys() and untimed(saved.rows) == untimed(copied.rows)
    assert torch.equal(states[0]["carry"]["z_H"], states[1]["carry"]["z_H"])


def test_without_what_only_resuming_needs_weights_are_left_and_no_run_goes_on(tmp_path: Path) -> None:
    config = make_config(train={"max_samples": 16 * 10})
    trial = FakeTrial(tmp_path / "run")
    train(config, trial)
    folder = trial.folder / "5"
    everything = load_to_resume(folder, "cpu")
    shutil.rmtree(folder / "resume")
    left = load_checkpoint(folder, "cpu")
    assert everything.keys() - left.keys() == {"optimizers", "carry", "wall_s"}
    assert load(folder).step == 5
    with pytest.raises(CheckpointError, match="holds the weights alone"):
        train(config, FakeTrial(tmp_path / "again", checkpoint=folder))


def test_reports(tmp_path: Path) -> None:
    config = make_config()
    trial = FakeTrial(tmp_path)
    train(config, trial)
    first, last = trial.rows[0], trial.rows[-1]
    named = describe(config)["metrics"]
    undefined = {f"test/exact_accuracy_rating_{b}" for b in ("1_9", "10_29", "30_99", "100_up")}
    assert set(named) - set(last) <= undefined | {"test/q_auroc"}
    assert list(last) == [name for name in named if name in last]
    assert list(first) == [
        name for name in named if not name.startswith(("test/", "chosen")) and not name.endswith("_raw")
    ]
    assert last["samples"] == 16 * 20
    assert last["flops"] == 16 * 20 * describe(config)["flops_per_sample"]
    assert last["lr"] == pytest.approx(1e-4)
    assert first["lr"] == pytest.approx(1e-3, rel=0.05)
    assert 1 <= first["train/halt_steps"] <= 3
    loss = first["train/lm_loss"] + 0.5 * first["train/q_halt_loss"]
    assert first["train/loss"] == pytest.approx(loss, rel=1e-6)
    assert last["val/cell_accuracy"] != last["val/cell_accuracy_raw"]
    width = [row["val/exact_accuracy_high"] - row["val/exact_accuracy_low"] for row in (first, last)]
    assert width[1] < width[0]  # all 30 rows at the end, 16 before
    assert all(math.isfinite(value) for row in trial.rows for value in row.values())
    assert not any(path.exists() for path in trial.given)  # its temporary folders are gone


def test_seed_decides_everything(tmp_path: Path) -> None:
    config = make_config(train={"batch_size": 16, "max_samples": 16 * 5})
    rows = []
    for i, seed in enumerate((3, 3, 4)):
        trial = FakeTrial(tmp_path / str(i), seed=seed)
        torch.manual_seed(i)  # the global state has no say
        train(config, trial)
        rows.append(untimed(trial.rows))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_without_ema_raw_is_reported_for_both(tmp_path: Path) -> None:
    trial = FakeTrial(tmp_path)
    train(make_config(optim={"ema_decay": 0.0}), trial)
    last = trial.rows[-1]
    assert last["val/cell_accuracy"] == last["val/cell_accuracy_raw"]


def test_raw_weights_are_read_at_the_last_report_or_at_every_one(tmp_path: Path) -> None:
    few = {"batch_size": 16, "max_samples": 16 * 15}
    runs = {}
    for choice in ("last", "every"):
        trial = runs[choice] = FakeTrial(tmp_path / choice)
        train(make_config(train=few, eval={"raw_weights": choice}), trial)
    raw = [["val/cell_accuracy_raw" in row for row in trial.rows] for trial in runs.values()]
    assert raw == [[False, False, True], [True, True, True]]
    assert untimed(runs["last"].rows)[-1] == untimed(runs["every"].rows)[-1]


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_what_is_read_at_the_end_is_of_the_weights_that_val_chose(tmp_path: Path, ema_decay: float) -> None:
    """Under a decay that undoes what is learnt the best report is not the last one."""
    config = make_config(
        optim={"lr": 1e-2, "weight_decay": 30.0, "ema_decay": ema_decay, "lr_min_ratio": 1.0,
               "lr_warmup_steps": 0},
        train={"max_samples": 16 * 35}, eval={"val_rows": 30},
    )  # fmt: skip
    trial = FakeTrial(tmp_path)
    train(config, trial)
    ranks = [(row["val/exact_accuracy"], row["val/cell_accuracy"], row["step"]) for row in trial.rows]
    last, step = trial.rows[-1], max(ranks)[2]
    assert last["chosen_step"] == step < 35

    def read_at(step: int) -> dict[str, float]:
        there = Trainer(config, FakeTrial(tmp_path, checkpoint=tmp_path / str(step)))
        with there.ema.swapped(there.model):
            return depth_metrics(config, *run_test_rows(there.model, config, there.test))

    expected = read_at(step)
    assert {name: value for name, value in last.items() if name in expected} == expected != read_at(35)


def test_test_is_read_once_where_the_last_weights_are_the_chosen_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    for where in ("trm.loop.run_rows", "trm.evaluate.run_rows"):
        monkeypatch.setattr(
            where,
            lambda model, split, *rest, **named: (
                rows.append(len(split.inputs)) or run_rows(model, split, *rest, **named)
            ),
        )
    for steps, lr in ((1, 1e-3), (35, 1e-2)):
        config = make_config(
            optim={"lr": lr, "weight_decay": 30.0, "lr_min_ratio": 1.0, "lr_warmup_steps": 0},
            train={"max_samples": 16 * steps}, eval={"val_rows": 30},
        )  # fmt: skip
        trial = FakeTrial(tmp_path / str(steps))
        train(config, trial)
        last = trial.rows[-1]
        is_chosen = last["chosen_step"] == last["step"]
        assert is_chosen == (steps == 1)
        of_test = [n for n in rows if n != 30]  # val has 30
        assert of_test == [12, 20] + [20] * (not is_chosen)  # 12 go deeper
        assert (last["test/exact_accuracy"] == last["test/chosen_exact_accuracy"]) or not is_chosen
        rows.clear()


def test_the_last_report_is_chosen_by_the_same_rows_of_val_as_the_others(tmp_path: Path) -> None:
    short, longer = (FakeTrial(tmp_path / name) for name in ("short", "longer"))
    for trial, steps in (short, 5), (longer, 10):
        train(make_config(optim={"lr_min_ratio": 1.0}, train={"max_samples": 16 * steps}), trial)
    scores = [load_checkpoint(trial.folder / "5", "cpu")["chosen"]["score"] for trial in (short, longer)]
    assert tuple(scores[0]) == tuple(scores[1])
    assert scores[0][1] == longer.rows[0]["val/cell_accuracy"] != short.rows[0]["val/cell_accuracy"]


def test_a_checkpoint_without_chosen_weights_is_refused(tmp_path: Path) -> None:
    config = make_config(train={"max_samples": 16 * 5})
    first = FakeTrial(tmp_path / "a")
    train(config, first)
    state = format_1(first.folder / "5")
    del state["chosen"]
    save_checkpoint(tmp_path / "old", state)
    with pytest.raises(CheckpointError, match="did not keep the weights that were best on val: start again"):
        train(config, FakeTrial(tmp_path / "b", checkpoint=tmp_path / "old"))


def test_halting_metrics_are_left_out_where_no_row_halted(tmp_path: Path) -> None:
    config = make_config(
        model={"halt_max_steps": 8, "halt_bias": -50.0}, eval={"every_samples": 16 * 5, "val_rows": 4}
    )
    trial = FakeTrial(tmp_path)
    train(config, trial)
    assert "train/exact_accuracy" not in trial.rows[0]
    assert "train/loss" in trial.rows[0]
    assert trial.rows[1]["train/halt_steps"] == 8


def test_a_loss_that_is_not_finite_is_reported_and_ends_the_run(tmp_path: Path) -> None:
    trial = FakeTrial(tmp_path)
    config = make_config(optim={"lr": 1e30, "weight_decay": 1.0})
    train(config, trial)
    assert not math.isfinite(trial.rows[-1]["train/loss"])
    assert "val/loss" not in trial.rows[-1]
    assert trial.rows[-1]["step"] < 20


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    config = make_config(train={"batch_size": 16, "max_samples": 16 * 5})
    first = FakeTrial(tmp_path / "a")
    train(config, first)
    checkpoint = first.folder / "5"
    with pytest.raises(CheckpointError, match="its seed is 3, this run's 4"):
        train(config, FakeTrial(tmp_path / "b", checkpoint=checkpoint, seed=4))
    with pytest.raises(CheckpointError, match="its config is"):
        train(make_config(), FakeTrial(tmp_path / "c", checkpoint=checkpoint))
    done = FakeTrial(tmp_path / "d", checkpoint=checkpoint)
    train(config, done)
    assert done.rows == []


def test_describe() -> None:
    config = make_config()
    described = describe(config)
    counted = sum(p.numel() for _, p in Trainer(config, FakeTrial(Path())).model.network_parameters())
    assert described["num_params"] == counted
    assert described["warmup_samples"] == 4 * 16
    assert described["horizon_key"] == "train.max_samples"
    assert described["effective"] == config.effective()


def test_a_run_of_an_older_version_goes_on(tmp_path: Path) -> None:
    """Its config has the keys in another order, `out_gain` under another name, and no `norm_by_group`."""
    own = {"kind": "mamba2", "headdim": 4, "expand": 1.0, "ngroups": 2, "norm_by_group": False}
    config = make_config(model={"mixer": own}, train={"max_samples": 16 * 10})
    alone = FakeTrial(tmp_path / "alone")
    train(config, alone)
    state = format_1(alone.folder / "5")
    recorded = json.loads(state["config"])
    mixer = recorded["model"]["mixer"]
    recorded["model"]["mixer"] = mixer = mixer | {"out_proj_gain": mixer.pop("out_gain")}
    assert mixer.pop("norm_by_group") is False
    assert list(mixer)[-1] == "out_proj_gain" and mixer["out_proj_gain"] == 0.3
    save_checkpoint(tmp_path / "old", state | {"config": json.dumps(recorded)})
    gone_on = FakeTrial(tmp_path / "gone-on", checkpoint=tmp_path / "old")
    train(config, gone_on)
    assert untimed(gone_on.rows) == untimed(alone.rows)[1:]
    assert load(tmp_path / "old").config == config
    mixer["out_proj_gain"] = 0.4
    save_checkpoint(tmp_path / "other", state | {"config": json.dumps(recorded)})
    with pytest.raises(CheckpointError, match="its config is"):
        train(config, FakeTrial(tmp_path / "refused", checkpoint=tmp_path / "other"))


def test_a_run_goes_on_faster_but_not_as_another_one(tmp_path: Path) -> None:
    def config(first: dict[str, Any], second: dict[str, Any], **changes: Any) -> TrialConfig:
        parts = [{"kind": "mamba", "d_state": 4} | part for part in (first, second)]
        mixer = {"mixer": {"kind": "parallel", "mixers": parts}}
        return make_config(model=mixer, **{"train": {"max_samples": 16 * 10}} | changes)

    row, column, alone = {"order": "row"}, {"order": "column"}, FakeTrial(tmp_path / "alone")
    train(config(row, column), alone)
    checkpoint = alone.folder / "5"
    faster = config(row | {"backend": "torch"}, column, train={"max_samples": 16 * 10, "compile": "auto"},
                    eval={"batch_size": 7})  # fmt: skip
    trial = FakeTrial(tmp_path / "faster", checkpoint=checkpoint)
    train(faster, trial)
    assert trial.rows[-1]["train/loss"] == pytest.approx(alone.rows[-1]["train/loss"], rel=1e-3)
    with pytest.raises(CheckpointError, match="its config is"):  # as a trial the same, its weights elsewhere
        train(config(column, row), FakeTrial(tmp_path / "other", checkpoint=checkpoint))


CONSTANT = {"optim": {"lr_min_ratio": 1.0}}


def test_a_longer_run_goes_on_from_a_shorter_one_as_if_it_had_been_long_from_the_start(
    tmp_path: Path,
) -> None:
    long, short = make_config(**CONSTANT), make_config(**CONSTANT, train={"max_samples": 16 * 10})
    assert describe(long)["extendable"] and describe(short)["extendable"]
    whole = FakeTrial(tmp_path / "whole")
    train(long, whole)
    begun = FakeTrial(tmp_path / "begun")
    train(short, begun)
    gone_on = FakeTrial(tmp_path / "gone-on", checkpoint=begun.folder / "10")
    train(long, gone_on)
    assert untimed(gone_on.rows) == untimed(whole.rows)[2:]


def test_a_run_whose_rate_depends_on_its_length_cannot_be_made_longer(tmp_path: Path) -> None:
    for changes in ({}, {"optim": {"lr_min_ratio": 1.0, "lr_warmup_steps": 0.1}}):
        assert not describe(make_config(**changes))["extendable"]
    short = FakeTrial(tmp_path / "short")
    train(make_config(train={"max_samples": 16 * 10}), short)
    with pytest.raises(CheckpointError, match="its config is"):
        train(make_config(), FakeTrial(tmp_path / "long", checkpoint=short.folder / "10"))


def test_the_loss_of_going_on_is_reported_where_it_is_learned(tmp_path: Path) -> None:
    for act in ("continue", "halt", "none"):
        config = make_config(train={"batch_size": 16, "max_samples": 80})
        model = config.model.model_dump() | {"act": act}
        trial = FakeTrial(tmp_path / act)
        train(config.model_validate(config.model_dump() | {"model": model}), trial)
        (row,) = trial.rows
        assert ("train/q_continue_loss" in row) == (act == "continue")
        assert any("q_halt" in name for name in row) == (act != "none")  # an untrained head says nothing
        halting = row["train/loss"] - row["train/lm_loss"]
        learned = row.get("train/q_halt_loss", 0) + row.get("train/q_continue_loss", 0)
        assert halting == pytest.approx(0.5 * learned, abs=1e-6)
