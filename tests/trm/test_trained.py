"""Models from checkpoints: which weights, other people's files, and what is refused."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError

import trm
from trm.checkpoint import FILE, CheckpointError, load_checkpoint, save_checkpoint
from trm.config import TrialConfig
from trm.model import build_model
from trm.trained import CONFIG_FILE, WEIGHTS_FILE, Trained, export, load
from trm.trainer import train
from trm.trial import LocalTrial

CONFIG = TrialConfig.model_validate(
    {
        "model": {"hidden_size": 16, "num_layers": 1, "h_cycles": 1, "l_cycles": 1, "puzzle_emb_len": 1}
        | {"halt_max_steps": 2, "mixer": {"kind": "attention", "num_heads": 2}},
        "data": {"source": "embedded", "size": 4, "num_train": 40, "num_val": 20, "num_test": 20},
        "optim": {"lr": 1e-2, "lr_warmup_steps": 2, "ema_decay": 0.5},
        "train": {"batch_size": 8, "max_samples": 96},
        "eval": {"every_samples": 32, "val_rows": 8, "batch_size": 32},
    }
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoints `last` and `best` of a short run."""
    folder = tmp_path_factory.mktemp("run")
    train(CONFIG, LocalTrial(folder, seed=0, device="cpu"))
    return folder


def test_the_weights_that_are_asked_for_are_loaded(run: Path) -> None:
    state = load_checkpoint(run / "last", "cpu")
    name = "lm_head.weight"
    expected = {
        "raw": state["model"][name],
        "ema": state["ema"][name],
        "chosen": state["chosen"]["weights"][name],
    }
    for weights, values in expected.items():
        loaded = trm.load(run / "last", weights=weights)
        assert torch.equal(loaded.model.state_dict()[name], values)
        assert loaded.weights == weights and not loaded.model.training
    assert not torch.equal(expected["raw"], expected["ema"])
    assert load(run / "last").step == state["chosen"]["step"]


def test_a_checkpoint_holds_the_whole_config(run: Path) -> None:
    """Its horizon and the settings that change only the speed too."""
    assert load(run / "last").config == CONFIG


def test_exported_weights_predict_the_same(run: Path, tmp_path: Path) -> None:
    loaded = load(run / "last")
    export(loaded, tmp_path / "out")
    again = trm.load(tmp_path / "out")
    tokens = torch.randint(1, 6, (7, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    for one, other in zip(loaded.predict(tokens), again.predict(tokens), strict=True):
        assert one is not None and other is not None and torch.equal(one, other)
    assert (again.config, again.weights, again.step) == (CONFIG, "chosen", loaded.step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    with pytest.raises(CheckpointError, match="already exists"):
        export(loaded, tmp_path / "out")
    with pytest.raises(CheckpointError, match="holds chosen weights alone, not raw"):
        load(tmp_path / "out", weights="raw")


@pytest.mark.parametrize("place", [".", "empty", "empty/..", "file"])
def test_only_a_new_folder_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=f"^{place}: already exists.* that does not exist yet"):
        export(load(run / "last"), place)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["empty", "file"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
def test_an_export_that_cannot_be_written_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise error

    trained = load(run / "last")
    monkeypatch.setattr(safetensors.torch, "save_file", fails)
    with pytest.raises(CheckpointError, match="cannot be written"):
        export(trained, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_an_older_checkpoint_does_not_know_its_horizon(run: Path, tmp_path: Path) -> None:
    state = load_checkpoint(run / "last", "cpu")
    config = json.loads(state["config"])
    del config["train"]["max_samples"]
    save_checkpoint(tmp_path, state | {"config": json.dumps(config)})
    assert load(run / "last").knows_horizon and not load(tmp_path).knows_horizon
    export(load(tmp_path), tmp_path / "out")
    assert "max_samples" not in json.loads((tmp_path / "out" / CONFIG_FILE).read_text())["config"]["train"]
    assert not load(tmp_path / "out").knows_horizon


def test_an_older_checkpoint_without_chosen_weights_has_others(run: Path, tmp_path: Path) -> None:
    state = load_checkpoint(run / "last", "cpu")
    del state["chosen"]
    save_checkpoint(tmp_path, state)
    for weights in ("ema", "raw"):
        assert load(tmp_path, weights).step == state["step"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("inputs", "steps", "message"),
    [
        (torch.ones(0, 16, dtype=torch.uint8), None, r"has the shape \(0, 16\).*N from 1 on"),
        (torch.ones(2, 15, dtype=torch.uint8), None, r"has the shape \(2, 15\): give token ids \(N, 16\)"),
        (torch.ones(16, dtype=torch.uint8), None, r"has the shape \(16,\)"),
        (torch.full((2, 16), 6), None, "token ids from 6 to 6: give token ids .* from 0 to 5"),
        (torch.full((2, 16), -1), None, "token ids from -1 to -1"),
        (torch.ones(2, 16), None, "a tensor of torch.float32"),
        (torch.ones(2, 16, dtype=torch.bool), None, "a tensor of torch.bool"),
        (torch.ones(2, 16, dtype=torch.uint16), None, "a tensor of torch.uint16"),
        (torch.ones(2, 16, dtype=torch.int64).to_sparse(), None, "a sparse or meta tensor"),
        ([[1] * 16], None, "is a list, not a tensor"),
        (torch.ones(2, 16, dtype=torch.uint8), 0, "steps is 0: give a whole number from 1 on"),
        (torch.ones(2, 16, dtype=torch.uint8), -1, "steps is -1"),
        (torch.ones(2, 16, dtype=torch.uint8), 1.5, "steps is 1.5"),
    ],
)
def test_only_boards_are_predicted(run: Path, inputs: Any, steps: Any, message: str) -> None:
    trained = load(run / "last")
    for predict in (trained.predict, trained.predict_each_step):
        with pytest.raises(ValueError, match=message):
            predict(inputs, steps)


def test_without_a_trained_halting_head_there_is_no_confidence() -> None:
    fields = CONFIG.model_dump()
    fields["model"]["act"] = "none"
    config = TrialConfig.model_validate(fields)
    trained = Trained(build_model(config, seed=0, device="cpu"), config, "raw")
    tokens, confidence = trained.predict(torch.ones(2, 16, dtype=torch.uint8))
    assert tokens.shape == (2, 16) and confidence is None


def test_loading_draws_no_random_number(run: Path) -> None:
    before = torch.random.get_rng_state()
    load(run / "last")
    assert torch.equal(torch.random.get_rng_state(), before)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return exec, ("raise SystemExit('the pickle was executed')",)


def changed(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], None]:
    """Writes the run's checkpoint after a change to what it holds."""

    def write(run: Path, folder: Path) -> None:
        state = load_checkpoint(run / "last", "cpu")
        change(state)
        save_checkpoint(folder, state)

    return write


def with_config(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    def change(state: dict[str, Any]) -> None:
        config = json.loads(state["config"])
        config["model"][key] = value
        state["config"] = json.dumps(config)

    return change


def reshaped(state: dict[str, Any]) -> None:
    state["chosen"]["weights"]["lm_head.weight"] = torch.zeros(3, 16)


def diverged(state: dict[str, Any]) -> None:
    state["chosen"]["weights"]["lm_head.weight"].fill_(torch.nan)


def truncated(run: Path, folder: Path) -> None:
    content = (run / "last" / FILE).read_bytes()
    (folder / FILE).write_bytes(content[: len(content) // 2])


BROKEN: dict[str, tuple[Callable[[Path, Path], object], str]] = {
    "pickled code": (lambda _, folder: (folder / FILE).write_bytes(pickle.dumps(Evil())), "not a readable"),
    "torch-pickled code": (lambda _, folder: torch.save({"model": Evil()}, folder / FILE), "not a readable"),
    "truncated": (truncated, "not a readable"),
    "no dict": (lambda _, folder: torch.save([1], folder / FILE), "is not a checkpoint of a run"),
    "newer": (changed(lambda state: state.update(format=99)), "newer version"),
    "of an older version": (changed(lambda state: state.pop("chosen")), "older version.*ema or raw"),
    "of another trainer": (changed(lambda state: state.pop("model")), "model: is missing"),
    "missing weight": (changed(lambda state: state["model"].pop("H_init")), "lacks the weight H_init"),
    "extra weight": (changed(lambda state: state["model"].update(x=torch.ones(1))), "the network lacks, x"),
    "misshapen weight": (changed(reshaped), r"lm_head.weight has the shape \(3, 16\)"),
    "diverged": (changed(diverged), "not finite"),
    "other layers": (changed(with_config("num_layers", 2)), "lacks the weight block.layers.1"),
    "unknown key": (changed(with_config("colour", 2)), "colour"),
    "damaged config": (changed(lambda state: state.update(config="{")), "damaged"),
    "nothing there": (lambda *_: None, "holds neither"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_checkpoint_that_cannot_be_used_is_refused(run: Path, tmp_path: Path, case: str) -> None:
    write, message = BROKEN[case]
    write(run, tmp_path)
    with pytest.raises(CheckpointError, match=message) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("case", ["newer", "no format", "no config", "damaged weights", "no json"])
def test_an_exported_folder_that_cannot_be_used_is_refused(run: Path, tmp_path: Path, case: str) -> None:
    folder = tmp_path / "out"
    export(load(run / "last"), folder)
    about = json.loads((folder / CONFIG_FILE).read_text())
    match case:
        case "newer":
            (folder / CONFIG_FILE).write_text(json.dumps(about | {"format": 2}))
        case "no format":
            (folder / CONFIG_FILE).write_text("{}")
        case "no config":
            (folder / CONFIG_FILE).unlink()
        case "no json":
            (folder / CONFIG_FILE).write_text("{")
        case _:
            content = (folder / WEIGHTS_FILE).read_bytes()
            (folder / WEIGHTS_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=str(folder)):
        load(folder)


def test_a_run_folder_names_its_checkpoints(run: Path) -> None:
    with pytest.raises(CheckpointError, match="there are some in best, last"):
        load(run)
    with pytest.raises(CheckpointError, match="no such folder"):
        load(run / "nowhere")
    with pytest.raises(CheckpointError, match="chosen, ema, raw"):
        load(run / "last", weights="best")  # type: ignore[arg-type]
