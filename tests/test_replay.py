"""The recordings replay; a wrong one fails; recordings of other shapes and names than ours are understood."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden_trm import Replay, under
from tests.recorder import record_trm
from tests.recorder_hrm import record_hrm
from tests.replay import Comparison, main, relative_error, replay_file

GOLDEN = Path(__file__).parent / "golden"
CASES = sorted(path.stem for path in GOLDEN.glob("*.json"))


def copy_case(name: str, folder: Path, **changes: np.ndarray) -> Path:
    """A copy of a recording, under another name, with some of its arrays changed; its path without suffix."""
    shutil.copy(GOLDEN / f"{name}.json", folder / "other.json")
    with np.load(GOLDEN / f"{name}.npz") as archive:
        np.savez(folder / "other.npz", **{**archive, **changes})
    return folder / "other"


def array(name: str, key: str) -> np.ndarray:
    with np.load(GOLDEN / f"{name}.npz") as archive:
        return archive[key]


@pytest.mark.parametrize("name", CASES)
def test_recordings_replay(name):
    status, text = replay_file(GOLDEN / name)
    assert status == "PASS", text


def test_the_model_is_known_by_its_keys_not_by_its_name(tmp_path):
    assert replay_file(copy_case("trm_mlp", tmp_path))[0] == "PASS"


@pytest.mark.parametrize(
    ("name", "key", "where"),
    [
        ("trm_mlp", "init/inner.L_init", "step0/"),
        ("trm_mlp", "step2/before/z_L", "step2/"),
        ("trm_mlp", "step1/grad/puzzle_emb_local", "step1/grad/puzzle_emb_local"),
        ("trm_attention", "ema/inner.lm_head.weight", "ema/lm_head.weight"),
        ("trm_attention", "eval/logits", "eval/logits"),
    ],
)
def test_an_error_of_one_in_a_hundred_fails_where_it_is(tmp_path, name, key, where):
    recorded = array(name, key)
    noise = np.random.default_rng(0).normal(size=recorded.shape).astype(recorded.dtype)
    status, text = replay_file(copy_case(name, tmp_path, **{key: recorded + 0.01 * noise}))
    assert status == "FAIL" and where in text


def test_halted_is_compared_exactly(tmp_path):
    flipped = array("trm_mlp", "step1/halted")
    flipped[0] = ~flipped[0]
    status, text = replay_file(copy_case("trm_mlp", tmp_path, **{"step1/halted": flipped}))
    assert status == "FAIL" and text.startswith("step1/halted is ")


def test_nan_fails(tmp_path):
    broken = np.full_like(array("trm_mlp", "step0/logits"), np.nan)
    status, text = replay_file(copy_case("trm_mlp", tmp_path, **{"step0/logits": broken}))
    assert status == "FAIL" and "worst nan at step0/logits" in text


def test_relative_error():
    assert relative_error(torch.tensor([3.0, 4.0]), np.array([3.0, 5.0])) == pytest.approx(1 / 34**0.5)
    assert relative_error(0.5, 0.0) == 0.5
    comparison = Comparison({"a": 1.0, "b": 0.1})
    comparison.close("loose", "a", 1.5, 1.0)
    comparison.close("tight", "b", 1.2, 1.0)
    passed, text = comparison.verdict()
    assert not passed and "tight" in text  # the smaller error, over the smaller tolerance


def test_exit_statuses_and_lines(tmp_path, capsys):
    good, bad, empty = (tmp_path / name for name in ("good", "bad", "empty"))
    for folder in (good, bad, empty):
        folder.mkdir()
    assert main([str(empty)]) == 2
    assert main([str(tmp_path / "absent")]) == 2
    assert "no recording" in capsys.readouterr().err
    copy_case("trm_mlp", good)
    assert main([str(good)]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("PASS other worst ") and line.endswith(")")
    copy_case("trm_mlp", bad)
    (bad / "alone.npz").write_bytes(b"")
    (bad / "cut.json").write_text("{")
    (bad / "cut.npz").write_bytes((GOLDEN / "trm_mlp.npz").read_bytes()[:1000])
    (bad / "what.json").write_text("{}")
    np.savez(bad / "what.npz", x=np.zeros(1))
    assert main([str(bad)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["FAIL", "alone"],
        ["FAIL", "cut"],
        ["PASS", "other"],
        ["FAIL", "what"],
    ]
    assert "alone.json is missing" in lines[0] and "neither `config`" in lines[3]


def test_optimizers_driven_by_the_recorded_gradients_give_the_recorded_weights():
    """Of the MLP's recording only single steps replay; this joins them: AdamW, SignSGD and EMA."""
    case = json.loads((GOLDEN / "trm_mlp.json").read_text())
    with np.load(GOLDEN / "trm_mlp.npz") as archive:
        arrays = dict(archive)
    replay = Replay(case, arrays)
    for t in range(replay.num_steps):
        gradients = under(arrays, f"step{t}/grad/")
        gradients["puzzle_emb.weights"] = gradients.pop("puzzle_emb_local").sum(0, keepdim=True)
        for name, parameter in replay.model.named_parameters():
            parameter.grad = gradients[name]
        replay.optimizers.set_rates(t + 1)
        replay.optimizers.step()
        replay.ema.update(replay.model)
        after = "final/" if t + 1 == replay.num_steps else f"step{t + 1}/before/weights/"
        state = replay.model.state_dict()
        for name, weight in under(arrays, after).items():
            torch.testing.assert_close(state[name], weight, rtol=1e-5, atol=1e-7)
    for name, weight in under(arrays, "ema/").items():
        torch.testing.assert_close(replay.ema.shadow[name], weight, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "changes",
    [
        {"pos_encodings": "learned", "puzzle_emb_len": 1, "vocab_size": 9, "seq_len": 7},
        {"pos_encodings": "none", "mlp_t": True, "L_layers": 1, "H_cycles": 1, "expansion": 2.0},
        {"puzzle_emb_ndim": 0, "puzzle_emb_len": 0, "batch_size": 3},
        {"puzzle_emb_ndim": 20, "puzzle_emb_len": 0, "num_heads": 4},
        {"loss": "softmax cross-entropy", "L_cycles": 1, "halt_max_steps": 1, "rope_theta": 100.0},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_other_configurations_are_understood(tmp_path, changes):
    record_trm(tmp_path / "case", **changes)
    status, text = replay_file(tmp_path / "case")
    assert status == "PASS", text


def test_what_cannot_be_replayed_says_why(tmp_path):
    record_trm(tmp_path / "case")
    text = (tmp_path / "case.json").read_text()
    for old, new, reason in [
        ("AdamW", "Muon", "optimizers are 'Muon'"),
        ('"hidden_size": 16', '"hidden_size": 32', "size mismatch"),
        ('"loss": 0.0001', '"other": 0.0001', "'loss'"),
        ('"H_cycles"', '"cycles"', "no 'H_cycles'"),
    ]:
        assert old in text
        (tmp_path / "case.json").write_text(text.replace(old, new))
        status, message = replay_file(tmp_path / "case")
        assert status == "FAIL" and reason in message


def test_the_targets_of_q_learning_are_compared(tmp_path):
    target = array("hrm_attention", "step3/target_q_continue")
    stem = copy_case("hrm_attention", tmp_path, **{"step3/target_q_continue": target + 1e-2})
    status, text = replay_file(stem)
    assert status == "FAIL" and "at step3/target_q_continue" in text


@pytest.mark.parametrize(("h_layers", "l_layers"), [(2, 2), (3, 1), (1, 2)])
def test_an_hrm_with_networks_of_unequal_depth_replays(tmp_path, h_layers, l_layers):
    stem = record_hrm(tmp_path / "hrm", H_layers=h_layers, L_layers=l_layers)
    status, text = replay_file(stem)
    assert status == "PASS", text
    case = json.loads(stem.with_suffix(".json").read_text())
    case["config"]["H_layers"] = 4
    stem.with_suffix(".json").write_text(json.dumps(case))
    status, text = replay_file(stem)
    assert status == "FAIL" and "block_H.layers." in text
