"""Launches and bytes of what a GPU is asked to do, counted on one without numbers (`tests.trm.fake_cuda`).

Every dispatched operation counts as one kernel that reads its operands and writes its results once. Views and
allocations are none. PyTorch launches more for some (sorting, cumulative sums), and a GPU's caches spare it
some reads: the counts are for comparing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.trm.fake_cuda import on_fake_cuda
from trm.config import TrialConfig
from trm.loop import Trainer
from trm.memory import saved_for_backward
from trm.mixers.kernels import scan_triton
from trm.mixers.kernels.scan import IN_TORCH, Stepper
from trm.trial import NullTrial

_ALLOCATIONS = ("empty", "new_empty")
_OVERWRITING = ("copy_", "fill_", "zero_")  # they write what they do not read


class StepTraffic(NamedTuple):
    """Of one training step."""

    launches: int
    bytes: int  # read and written
    saved: int  # bytes, for the backward pass


def of_a_step(config: TrialConfig, scan_in_torch: bool = False) -> StepTraffic:
    """The trainer's own second step (the first makes the optimizers' state), in bfloat16 and not compiled."""
    train = config.train.model_copy(update={"precision": "bfloat16", "compile": "off"})
    with on_fake_cuda():
        trainer = Trainer(config.model_copy(update={"train": train}), NullTrial("cuda:0"))
        trainer.model.train()
        trainer.train_step(1)
        with Traffic(scan_in_torch) as traffic, saved_for_backward(trainer.model) as saved:
            trainer.train_step(2)
    return StepTraffic(traffic.launches, traffic.bytes, sum(saved.values()))


class Traffic(TorchDispatchMode):
    """Counts of the operations within its context that have a tensor of the GPU.

    Mamba's scan is counted from the inside: as Triton's kernel and the sums after it, or with `scan_in_torch`
    as PyTorch's loop over the tokens.
    """

    def __init__(self, scan_in_torch: bool = False) -> None:
        super().__init__()
        self.launches = self.bytes = 0
        self.scan_in_torch = scan_in_torch
        self._scans: dict[Any, tuple[int, int]] = {}  # by what they are given

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "trm":
            self._count_scan(func, args)
            return func(*args)
        result = func(*args, **(kwargs or {}))
        given, made = _on_gpu((args, kwargs)), _on_gpu(result)
        known = {_storage(v) for v in given}
        fresh = [v for v in made if _storage(v) not in known]
        is_view = not fresh and not func._schema.is_mutable
        name = func.overloadpacket.__name__
        if (given or made) and not is_view and not name.startswith(_ALLOCATIONS):
            written = _written(func, args, kwargs or {})
            overwritten = {id(v) for v in written} if name.startswith(_OVERWRITING) else set()
            self.launched([*(v for v in given if id(v) not in overwritten), *fresh, *written])
        return result

    def launched(self, tensors: Iterable[Tensor]) -> None:
        """Count a kernel that reads or writes these tensors. Of an expanded one only what there is."""
        self.launches += 1
        for tensor in tensors:
            self.bytes += min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())

    def _count_scan(self, func: Any, args: Any) -> None:
        key = (func, *((v.shape, v.dtype, v.stride()) if isinstance(v, Tensor) else v for v in args))
        if key not in self._scans:
            with Traffic() as inside:
                _run_scan(func, args, IN_TORCH if self.scan_in_torch else _in_triton(inside))
            self._scans[key] = inside.launches, inside.bytes
        launches, size = self._scans[key]
        self.launches += launches
        self.bytes += size


def _run_scan(func: Any, args: Any, stepper: Stepper) -> None:
    *tensors, reverse, every, _ = args
    if func is torch.ops.trm.selective_scan.default:
        stepper.scan(tuple(tensors), reverse, every)
    elif func is torch.ops.trm.selective_scan_gradients.default:
        *inputs, dy, checkpoints = tensors
        stepper.gradients(tuple(inputs), dy, checkpoints, reverse, every)
    else:
        raise NotImplementedError(f"{func}: say here what it launches")


def _in_triton(traffic: Traffic) -> Stepper:
    """The scan's implementation by Triton, whose kernels are counted and not run."""

    class Counted:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *given, **constants: traffic.launched(_on_gpu(given))

    def counting(function: Any) -> Any:
        def call(*given: Any) -> Any:
            with pytest.MonkeyPatch.context() as patch:
                for kernel in ("_scan_kernel", "_gradients_kernel"):
                    patch.setattr(scan_triton, kernel, Counted())
                return function(*given)

        return call

    return Stepper(counting(scan_triton.scan), counting(scan_triton.gradients))


def _on_gpu(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.is_cuda]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """The operands that an operation changes in place."""
    given = dict(zip((argument.name for argument in func._schema.arguments), args, strict=False)) | kwargs
    changed = [a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    return _on_gpu([given.get(name) for name in changed])
