"""The table of configs: one row a trial, of its last start, with every value as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import sweeps
from analysis.configs import config_of
from analysis.sweep import Sweep, load_sweep
from sweeps.process import locked
from sweeps.record.configs import configs_frame
from sweeps.record.journal import Journal, read_journal
from tests.analysis.played import played
from tests.sweeps.sweep_folders import Played
from trm.settings.overrides import flatten

TUNE = {"tune": {"lr": {"loguniform": [0.01, 1.0]}}, "search": {"draws_per_arm": 2, "seeds": [7]}}
MEDIAN = {"kind": "median", "grace_period": 20, "max_t": 60}


def recorded(folder: Path, *configs: dict[str, Any]) -> Sweep:
    """A sweep of trials t0, t1, ... that started with these configs, its table written and read back."""
    journal = Journal(folder / "journal.jsonl")
    for number, config in enumerate(configs):
        journal.append("start", trial_id=f"t{number}", attempt=1, config=config)
    journal.close()
    ids = [f"t{number}" for number in range(len(configs))]
    configs_frame(ids, folder / "journal.jsonl").to_parquet(folder / "configs.parquet")
    empty = pd.DataFrame()
    return Sweep(empty, empty, empty, {}, read_configs=lambda: pd.read_parquet(folder / "configs.parquet"))


@pytest.mark.parametrize(
    ("values", "dtype", "cells"),
    [
        ([True, False], "boolean", [True, False]),
        ([1, 2], "Int64", [1, 2]),
        ([1, 2.5], "float64", [1.0, 2.5]),
        (["mlp", "null"], "str", ["mlp", "null"]),
        ([None, 8], "json", ["null", "8"]),
        ([None, None], "json", ["null", "null"]),
        (["auto", 8], "json", ['"auto"', "8"]),
        ([True, 1], "json", ["true", "1"]),
        ([[0.9, 0.95], [0.9, 0.99]], "json", ["[0.9, 0.95]", "[0.9, 0.99]"]),
        ([{}, {}], "json", ["{}", "{}"]),
        ([2**53 + 1, 0.5], "json", ["9007199254740993", "0.5"]),
        ([2**80, 1], "json", ["1208925819614629174706176", "1"]),
    ],
)
def test_a_column_has_one_type_and_its_values_are_read_back(
    tmp_path: Path, values: list[Any], dtype: str, cells: list[Any]
) -> None:
    """Also beside a trial that does not have the key."""
    sweep = recorded(tmp_path, *({"x": value, "a": 0} for value in values), {"a": 0})
    column = sweep.configs["x"]
    assert list(column[:-1]) == cells and pd.isna(column.iloc[-1])
    assert sweep.configs.attrs["json"] == (["x"] if dtype == "json" else [])
    assert column.dtype in ({"json": ("object", "str"), "str": ("object", "str")}.get(dtype) or (dtype,))
    read = [config_of(sweep, f"t{number}") for number in range(3)]
    assert read == [*({"x": value, "a": 0} for value in values), {"a": 0}]


def test_columns_are_the_dotted_keys_into_lists_too(tmp_path: Path) -> None:
    mixers = [{"kind": "mlp"}, {"kind": "mamba", "d_state": 8}]
    sweep = recorded(
        tmp_path,
        {"model": {"mixer": {"kind": "mlp"}}, "lr": 0.1, "trial_id": "its own"},
        {"model": {"mixer": {"kind": "hybrid", "mixers": mixers}}, "lr": 0.1},
    )
    inside = ["0.kind", "1.kind", "1.d_state"]
    keys = ["model.mixer.kind", "lr", *(f"model.mixer.mixers.{key}" for key in inside)]
    assert list(sweep.configs) == ["trial_id", *keys]
    assert list(sweep.configs["trial_id"]) == ["t0", "t1"]


def test_no_password_or_token_gets_in(tmp_path: Path) -> None:
    secret = "hunter2"
    config = {
        "data": {"url": f"postgresql://me:{secret}@db/x", "tokens": 5, "path": "/data/a.csv"},
        "hub": {"token": secret, "api_key": secret, "credentials": {"user": secret, "more": [secret]}},
        "mirrors": [f"https://{secret}@mirror.example/"],
        "keys": {"tokens": [secret], "passphrase": secret, "hf_token": secret, "private_key": secret},
        "pad_token": "<pad>",
        "sort_key": "rating",
        "max_token": 12,
        "password": "",
    }
    sweep = recorded(tmp_path, config)
    assert secret not in (tmp_path / "configs.parquet").read_bytes().decode("latin-1")
    assert config_of(sweep, "t0") == {
        "data.url": "postgresql://me:***@db/x",
        "data.tokens": 5,
        "data.path": "/data/a.csv",
        "hub.token": "***",
        "hub.api_key": "***",
        "hub.credentials.user": "***",
        "hub.credentials.more": ["***"],
        "mirrors": ["https://***@mirror.example/"],
        "keys.tokens": ["***"],
        "keys.passphrase": "***",
        "keys.hf_token": "***",
        "keys.private_key": "***",
        "pad_token": "<pad>",
        "sort_key": "rating",
        "max_token": 12,
        "password": "",
    }


def test_a_trial_has_one_row_with_all_that_it_runs_with(tmp_path: Path) -> None:
    """Defaults, the horizon of the scheduler, level, tuned value; blank before it starts."""
    begun = Played(tmp_path, base={}, scheduler=MEDIAN, **TUNE).run(2)
    trials = begun.controller.plan.first_trials()
    sweep = load_sweep(begun.finish())
    assert list(sweep.configs["trial_id"]) == list(sweep.trials["trial_id"])
    assert len(sweep.configs) == 6  # three arms, two draws
    for trial in trials[:2]:
        found = config_of(sweep, trial.trial_id)
        assert found == flatten(trial.config)
        assert found["max_samples"] == 60 and found["lr"] == trial.values["lr"]
        assert found["model.bonus"] == 0.0 and found["model.kind"] == trial.config["model"]["kind"]
    row = sweep.configs.set_index("trial_id").loc[trials[2].trial_id]
    assert row.isna().all()


def test_the_seed_is_in_it_where_a_key_takes_the_seed(tmp_path: Path) -> None:
    sweep = load_sweep(Played(tmp_path, base={}, seed_keys=["max_samples"], seeds=[30, 40]).run().finish())
    merged = sweep.trials.merge(sweep.configs, on="trial_id", suffixes=("", "_config"))
    assert len(merged) == 6 and (merged["seed"] == merged["max_samples"]).all()


def test_a_resumed_trial_has_one_row(tmp_path: Path) -> None:
    begun = Played(tmp_path)
    interrupted = begun.start()
    begun.end()
    folder = Played(tmp_path).run().finish()
    starts = [event["trial_id"] for event in read_journal(folder / "journal.jsonl", "start")]
    assert starts.count(interrupted) == 2
    assert sorted(load_sweep(folder).configs["trial_id"]) == sorted(set(starts))


def test_an_extended_trial_has_the_config_of_its_last_start(tmp_path: Path) -> None:
    played(tmp_path, seeds=[1, 2], scheduler={"kind": "fifo", "max_t": 100})
    folder = played(tmp_path, seeds=[1, 2, 3], scheduler={"kind": "fifo", "max_t": 200})
    starts = [event["trial_id"] for event in read_journal(folder / "journal.jsonl", "start")]
    sweep = load_sweep(folder)
    assert len(starts) == 8 + 12 and sorted(sweep.configs["trial_id"]) == sorted(set(starts))
    assert (sweep.configs["max_samples"] == 200).all()


def test_a_sweep_that_runs_has_the_configs_of_now(tmp_path: Path) -> None:
    begun = Played(tmp_path).run(1)
    with locked(begun.end()):
        sweep = sweeps.load("toy", str(tmp_path))
    assert not (begun.folder / "configs.parquet").exists()
    assert sweep.configs["lr"].notna().sum() == 1
