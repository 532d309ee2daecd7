"""Trained models: a trial's checkpoint, or a folder of weights that left their run, as a model to use.

Weights that leave a run are a folder with `model.safetensors` and `config.json`: the run's config, which of
its weights these are, and whether its `data` are what they were trained on.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from trm.checkpoint import FILE, CheckpointError, check_format, load_checkpoint, written_whole
from trm.config import TrialConfig
from trm.data.base import Split, TaskShape
from trm.device import forward_dtype
from trm.evaluate import evaluating, run_steps
from trm.model import TRM
from trm.stored import (
    MAX_TOKENS,
    About,
    TrialState,
    check_fit,
    check_weights,
    config_of,
    mapping_of,
    structured,
)

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"
FORMAT = 1  # of config.json; a higher one is refused
Weights = Literal["chosen", "ema", "raw"]
_TOKEN_DTYPES = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
Answer = tuple[Tensor, Tensor | None]  # see `Trained.predict`


@dataclass(frozen=True)
class Trained:
    """A model in evaluation mode with the config of its run."""

    model: TRM
    config: TrialConfig
    weights: str  # "chosen", "ema" or "raw"; "converted" from another implementation
    step: int | None = None  # the optimizer step that the weights are of, if it is known
    knows_data: bool = True  # whether config.data are what it was trained on
    knows_horizon: bool = True  # whether config.train.max_samples is the run's; older checkpoints lack it
    origin: dict[str, Any] = field(default_factory=dict)  # what a conversion back needs

    def predict(self, inputs: Tensor, steps: int | None = None) -> Answer:
        """Tokens (N, L) and the halting head's confidence (N,) in [0, 1], for token ids (N, L).

        `steps` is the number of supervision steps; by default model.halt_max_steps. With `act: none` the
        halting head is not trained, and the confidence is None. Raises ValueError for other inputs or steps.
        """
        return self._after(inputs, steps, last_only=True)[-1]

    def predict_each_step(self, inputs: Tensor, steps: int | None = None) -> list[Answer]:
        """What `predict` returns, after each of the steps."""
        return self._after(inputs, steps, last_only=False)

    def _after(self, inputs: Tensor, steps: int | None, last_only: bool) -> list[Answer]:
        steps = self.config.model.halt_max_steps if steps is None else steps
        if type(steps) is not int or steps < 1:
            raise ValueError(f"steps is {steps!r}: give a whole number from 1 on, or None for halt_max_steps")
        self._check_inputs(inputs)
        device = self.model.H_init.device
        split = Split.unrated(inputs.to(device), torch.zeros_like(inputs, device=device))
        batches: dict[int, list[tuple[Tensor, Tensor]]] = {}  # by step
        with evaluating(self.model):
            for step, _, output in run_steps(self.model, split, steps, self.config.eval.batch_size):
                if step == steps or not last_only:
                    answer = output.logits.argmax(-1), output.q_halt_logits.sigmoid()
                    batches.setdefault(step, []).append(answer)
        parts = [tuple(zip(*batch, strict=True)) for batch in batches.values()]
        is_trained = self.config.model.learns_to_halt
        return [(torch.cat(tokens), torch.cat(sure) if is_trained else None) for tokens, sure in parts]

    def _check_inputs(self, inputs: Tensor) -> None:
        length, symbols = self.model.shape.seq_len, self.model.shape.vocab_size
        wanted = f"give token ids (N, {length}) from 0 to {symbols - 1}, as whole numbers"
        if not isinstance(inputs, Tensor):
            raise ValueError(f"inputs is a {type(inputs).__name__}, not a tensor: {wanted}")
        if inputs.layout is not torch.strided or inputs.is_meta:
            raise ValueError(f"inputs is a sparse or meta tensor: {wanted}")
        if inputs.dtype not in _TOKEN_DTYPES:
            raise ValueError(f"inputs is a tensor of {inputs.dtype}: {wanted}")
        if inputs.ndim != 2 or inputs.shape[1] != length or not len(inputs):
            raise ValueError(f"inputs has the shape {tuple(inputs.shape)}: {wanted}, N from 1 on")
        low, high = (int(end) for end in inputs.long().aminmax())
        if low < 0 or high >= symbols:
            raise ValueError(f"inputs has token ids from {low} to {high}: {wanted}")


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
    """Write the weights and their config to a new folder, whole or not at all. Raises CheckpointError.

    The folders above it are made. A horizon that is not known is left out of the config.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    target = Path(folder).resolve()  # `.` and `..` have no name of their own
    if target.exists():
        raise CheckpointError(
            f"{folder}: already exists, and nothing is overwritten: give a folder that does not exist yet"
        )
    config = trained.config.model_dump(mode="json")
    if not trained.knows_horizon:
        del config["train"]["max_samples"]
    about = {
        "format": FORMAT,
        "weights": trained.weights,
        "step": trained.step,
        "knows_data": trained.knows_data,
        "origin": trained.origin,
        "config": config,
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(target) as partial_folder:
            partial_folder.mkdir()
            tensors = {name: weight.contiguous() for name, weight in trained.model.state_dict().items()}
            save_file(tensors, partial_folder / WEIGHTS_FILE)
            (partial_folder / CONFIG_FILE).write_text(
                json.dumps(about, indent=2, allow_nan=False) + "\n", encoding="utf-8"
            )
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"{folder}: cannot be written ({reason}): give another folder") from error


def build(config: TrialConfig, weights: dict[str, Tensor], source: object, device: torch.device) -> TRM:
    """A model in evaluation mode with these weights. Raises CheckpointError if they are not its own.

    Nothing is allocated before the weights are found to fit. The puzzle embedding is as the weights have it:
    a converted one may have many identifiers.
    """
    check_weights(weights, source)
    if config.seq_len > MAX_TOKENS:
        raise CheckpointError(
            f"{source}: its config has {config.seq_len} tokens (model.puzzle_emb_len and the board's cells); "
            f"at most {MAX_TOKENS} are loaded: correct the config"
        )
    shape, width = config.data.shape, None
    embedding = weights.get("puzzle_emb.weights")
    if embedding is not None and embedding.ndim == 2:
        rows, columns = embedding.shape
        if rows and 0 < columns <= config.model.puzzle_emb_len * config.model.hidden_size:
            shape, width = shape._replace(num_identifiers=rows), columns
    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            check_fit(weights, _network(config, shape, width, source), source)
        model = _network(config, shape, width, source)
    model.load_state_dict(weights)
    model.forward_dtype = forward_dtype(config.train.precision, device)
    return model.to(device).eval()


def _network(config: TrialConfig, shape: TaskShape, width: int | None, source: object) -> TRM:
    try:
        return TRM(config.model, shape, width)
    except Exception as error:  # torch raises many types of errors for sizes that no tensor has
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{source}: no network can be made from its config ({reason}): correct the config"
        ) from error


def _of_a_trial(folder: Path, weights: Weights, device: torch.device) -> Trained:
    path = folder / FILE
    state = structured(load_checkpoint(folder, "cpu"), TrialState, path)
    own, step = (state.ema if weights == "ema" else state.model), state.step
    if weights == "chosen":
        if state.chosen is None or not state.chosen.weights:
            raise CheckpointError(
                f"{path}: does not hold the weights that were best on val (chosen): it was written by an "
                f"older version, or before the first evaluation: ask for the weights ema or raw"
            )
        own, step = state.chosen.weights, state.chosen.step
    values = state.model | own  # the former has what is not averaged, or not trained
    config = config_of(mapping_of(path, state.config), values, path)
    model = build(config, values, path, device)
    parameters = model.network_parameters() if weights == "ema" else model.named_parameters()
    is_raw = weights == "ema" and not config.optim.ema_decay  # in a run without an average
    lacking = {name for name, _ in parameters} - own.keys()
    if lacking and not is_raw:
        raise CheckpointError(
            f"{path}: its {weights} weights lack {min(lacking)}: it is damaged: restore it from a copy, or "
            f"ask for other weights"
        )
    return Trained(model, config, weights, step, knows_horizon=_has_horizon(config))


def _exported(folder: Path, weights: Weights, device: torch.device) -> Trained:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    try:
        content = mapping_of(path, path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(
            f"{path}: cannot be read ({reason}): restore it, or export the weights again"
        ) from error
    if "format" not in content:
        raise CheckpointError(
            f"{path}: has no format, so that it was not written by export or convert: give a folder that was"
        )
    check_format(path, content["format"], FORMAT)
    about = structured(content, About, path)
    if weights not in ("chosen", about.weights):  # `chosen` is the default, and means the only ones there are
        raise CheckpointError(
            f"{folder}: holds {about.weights} weights alone, not {weights}: leave weights out"
        )
    try:
        values = load_file(weights_path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{weights_path}: cannot be read ({error}): restore it, or export the weights again"
        ) from error
    config = config_of(about.config, values, path)
    model = build(config, values, weights_path, device)
    return Trained(
        model,
        config,
        about.weights,
        about.step,
        knows_data=about.knows_data,
        knows_horizon=_has_horizon(config),
        origin=about.origin.model_dump(exclude_unset=True),
    )


def _has_horizon(config: TrialConfig) -> bool:
    """Whether its horizon was given, and is not the default."""
    return "max_samples" in config.train.model_fields_set
