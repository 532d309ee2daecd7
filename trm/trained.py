"""Trained models: a trial's checkpoint, or a folder of weights that left their run, as a model to use.

Weights that leave a run are a folder with `model.safetensors` and `config.json`: the run's config, which of
its weights these are, and whether its `data` are what they were trained on.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trm.checkpoint import FILE, CheckpointError, check_format, load_checkpoint
from trm.config import TrialConfig
from trm.data.base import Split
from trm.device import forward_dtype
from trm.evaluate import evaluating, run_steps
from trm.model import TRM
from trm.settings.messages import explain

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
FORMAT = 1  # of config.json; a higher one is refused
Weights = Literal["chosen", "ema", "raw"]


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with the config of its run."""

    model: TRM
    config: TrialConfig
    weights: str  # "chosen", "ema" or "raw"; "converted" from another implementation
    step: int | None = None  # the optimizer step that the weights are of, if it is known
    knows_data: bool = True  # whether config.data are what it was trained on
    origin: dict[str, Any] = field(default_factory=dict)  # what a conversion back needs

    def predict(self, inputs: Tensor, steps: int | None = None) -> tuple[Tensor, Tensor]:
        """Tokens (N, L) and the halting head's confidence (N,) in [0, 1], for token ids (N, L).

        `steps` is the number of supervision steps; by default model.halt_max_steps.
        """
        return self._after(inputs, steps, last_only=True)[-1]

    def predict_each_step(self, inputs: Tensor, steps: int | None = None) -> list[tuple[Tensor, Tensor]]:
        """What `predict` returns, after each of the steps."""
        return self._after(inputs, steps, last_only=False)

    def _after(self, inputs: Tensor, steps: int | None, last_only: bool) -> list[tuple[Tensor, Tensor]]:
        steps = steps or self.config.model.halt_max_steps
        device = self.model.H_init.device
        split = Split.unrated(inputs.to(device), torch.zeros_like(inputs, device=device))
        batches: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by step
        with evaluating(self.model):
            for step, _, output in run_steps(self.model, split, steps, self.config.eval.batch_size):
                if step == steps or not last_only:
                    answer = output.logits.argmax(-1), output.q_halt_logits.sigmoid()
                    batches.setdefault(step, []).append(answer)
        parts = [tuple(zip(*batch, strict=True)) for batch in batches.values()]
        return [(torch.cat(tokens), torch.cat(confidence)) for tokens, confidence in parts]


def load(folder: str | Path, weights: Weights = "chosen", device: str | torch.device = "cpu") -> Trained:
    """The model in a trial's checkpoint folder, or in a folder that `export` or `convert` wrote.

    `weights`: of a trial's checkpoint the weights that were best on val (`chosen`), the moving average
    (`ema`), or those that the optimizer steps (`raw`); another folder has one kind. Never runs code from a
    file. Raises CheckpointError.
    """
    folder = Path(folder)
    if weights not in ("chosen", "ema", "raw"):
        raise CheckpointError(f"weights {weights!r}: give one of chosen, ema, raw")
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder: give one that holds {FILE} or {WEIGHTS_FILE}")
    if (folder / WEIGHTS_FILE).exists():
        return _exported(folder, weights, torch.device(device))
    if not (folder / FILE).exists():
        inside = sorted(path.parent.name for path in folder.glob(f"*/{FILE}"))
        nearer = f" (there are some in {', '.join(inside[:5])})" if inside else ""
        raise CheckpointError(f"{folder}: holds neither {FILE} nor {WEIGHTS_FILE}{nearer}: check the path")
    return _of_a_trial(folder, weights, torch.device(device))


def export(trained: Trained, folder: str | Path) -> None:
    """Write the weights and their config to a new folder, whole or not at all. Raises CheckpointError."""
    from safetensors.torch import save_file

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CheckpointError(f"{folder}: already exists and is not overwritten: give a new folder")
    about = {
        "format": FORMAT,
        "weights": trained.weights,
        "step": trained.step,
        "knows_data": trained.knows_data,
        "origin": trained.origin,
        "config": trained.config.model_dump(mode="json"),
    }
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = folder.with_name(f".{folder.name}.{os.getpid()}")
        partial.mkdir()
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}): give another") from error
    try:
        tensors = {name: weight.contiguous() for name, weight in trained.model.state_dict().items()}
        save_file(tensors, partial / WEIGHTS_FILE)
        (partial / CONFIG_FILE).write_text(json.dumps(about, indent=2) + "\n")
        partial.replace(folder)
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror}): give another") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def build(config: TrialConfig, weights: dict[str, Tensor], source: object, device: torch.device) -> TRM:
    """A model in evaluation mode with these weights. Raises CheckpointError if they are not its own.

    The puzzle embedding is as the weights have it: a converted one may have many identifiers.
    """
    shape, width = config.data.shape, None
    embedding = weights.get("puzzle_emb.weights")
    if embedding is not None and embedding.ndim == 2:
        rows, columns = embedding.shape
        if 0 < columns <= config.model.puzzle_emb_len * config.model.hidden_size:
            shape, width = shape._replace(num_identifiers=rows), columns
    with torch.random.fork_rng(devices=[]):
        model = TRM(config.model, shape, width)
    _check_fit(model, weights, source)
    model.load_state_dict(weights)
    model.forward_dtype = forward_dtype(config.train.precision, device)
    return model.to(device).eval()


def _check_fit(model: nn.Module, weights: dict[str, Tensor], source: object) -> None:
    own = model.state_dict()
    remedy = "the config is of another network: give the one that the weights were trained with"
    for text, names in (
        ("lacks the weight", own.keys() - weights.keys()),
        ("has a weight that the network lacks,", weights.keys() - own.keys()),
    ):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise CheckpointError(f"{source}: {text} {min(names)}{more}: {remedy}")
    for name, weight in own.items():
        if weights[name].shape != weight.shape:
            raise CheckpointError(
                f"{source}: {name} has the shape {tuple(weights[name].shape)}, but the network's has "
                f"{tuple(weight.shape)}: {remedy}"
            )
        if not weights[name].isfinite().all():
            raise CheckpointError(f"{source}: {name} has values that are not finite: the run diverged")


def _of_a_trial(folder: Path, weights: Weights, device: torch.device) -> Trained:
    path = folder / FILE
    state = load_checkpoint(folder, "cpu")
    if missing := [key for key in ("model", "ema", "chosen", "config", "step") if key not in state]:
        raise CheckpointError(f"{path}: has no {missing[0]!r}: it is not a checkpoint of TRM's trainer")
    config = _config(_json(path, state["config"]), path)
    values = dict(state["model"])
    step = state["step"]
    if weights == "ema":
        values |= state["ema"]  # empty in a run without an average
    elif weights == "chosen":
        values |= state["chosen"]["weights"]
        step = state["chosen"]["step"]
    return Trained(build(config, values, path, device), config, weights, step)


def _exported(folder: Path, weights: Weights, device: torch.device) -> Trained:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / CONFIG_FILE
    try:
        about = _json(path, path.read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file: restore it, or export the weights again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read: restore it, or export the weights again") from error
    if not isinstance(about.get("format"), int):
        raise CheckpointError(f"{path}: has no format: it was not written by export or convert")
    check_format(path, about["format"], FORMAT)
    kind = str(about.get("weights"))
    if weights not in ("chosen", kind):  # `chosen` is the default, and means the only ones there are
        raise CheckpointError(f"{folder}: holds {kind} weights alone, not {weights}: leave weights out")
    config = _config(about.get("config"), path)
    try:
        values = load_file(folder / WEIGHTS_FILE)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{folder / WEIGHTS_FILE}: cannot be read ({error}): restore it") from error
    model = build(config, values, folder / WEIGHTS_FILE, device)
    knows_data, origin = bool(about.get("knows_data")), dict(about.get("origin") or {})
    return Trained(model, config, kind, about.get("step"), knows_data, origin)


def _json(path: Path, text: Any) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its config is damaged ({error}): restore it") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: its config is no mapping: restore it")
    return content


def _config(content: Any, path: Path) -> TrialConfig:
    try:
        return TrialConfig.model_validate(content)
    except ValidationError as error:
        raise CheckpointError(explain(error, TrialConfig, str(path))) from error
