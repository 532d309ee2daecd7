"""A GPU without numbers, for a build of PyTorch that has none: tensors of shapes, dtypes and a device.

    with on_fake_cuda():
        trainer = Trainer(config, trial)  # whose device is "cuda:0"
        trainer.train_step(1)
        with no_waiting():
            trainer.train_step(2)

PyTorch's FakeTensorMode gives every operation the result's shape and device, and refuses operands on
different devices. What a CPU build lacks for it is registered or replaced here: a device guard, generators,
moving a module, and the engine that walks back through a graph.
"""

from __future__ import annotations

import ctypes
import hashlib
import heapq
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from trm import loop
from trm.cache import cached_file
from trm.checkpoint import save_checkpoint

WAITS = "a step waits for the device"
HOST = "a tensor of the host takes part in a step"

_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>)
"""

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler, g++")


@lru_cache
def _register_guard() -> None:
    """Let "cuda" be made the current device, without effect. It lasts as long as the process."""
    if torch.cuda.is_available():
        return
    package = Path(torch.__file__).parent
    command = [
        *("g++", "-O1", "-std=c++20", "-shared", "-fPIC", f"-I{package / 'include'}"),
        f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",
    ]

    def make(path: Path) -> None:
        source = path.with_suffix(".cpp")
        source.write_text(_GUARD)
        subprocess.run([*command, str(source), "-o", str(path), f"-L{package / 'lib'}", "-lc10"], check=True)

    key = hashlib.sha256(f"{torch.__version__} {command} {_GUARD}".encode()).hexdigest()[:24]
    ctypes.CDLL(str(cached_file(f"no_op_guard-{key}.so", make)))


@lru_cache
def _shapes_only() -> FakeTensorMode:
    """One for the process: fake tensors of two modes do not mix, and caches of the project may keep some."""
    return FakeTensorMode(allow_non_fake_inputs=True)


class _KnownNumbers(TorchDispatchMode):
    """A number that is read is 1 of a tensor on the device, 0 of one on the host whose numbers PyTorch has
    not noted: a condition on the device holds, and no row is solved."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].constant is None:
            read = {torch.bool: bool}.get(args[0].dtype, float if args[0].is_floating_point() else int)
            return read(args[0].is_cuda)
        if func is torch.ops.aten._fused_adamw_.tensor_lr:  # PyTorch knows no shapes of this overload
            func, kwargs = torch.ops.aten._fused_adamw_.default, kwargs | {"lr": 1.0}
        return func(*args, **(kwargs or {}))


class no_waiting(TorchDispatchMode):
    """Refuses what makes the host wait for the device, and tensors of the host beside those of the device.

    A host waits where it must know a number of the device's, or how many there are; and for a copy of its own
    memory, which is not pinned.
    """

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = tree_leaves((args, kwargs))
        if "cuda" in _devices(given) and _is_waited_for(func, args):
            self._refuse(WAITS, func)
        result = func(*args, **(kwargs or {}))
        if len(_devices([*given, *tree_leaves(result)])) > 1:
            self._refuse(HOST, func)
        return result

    @staticmethod
    def _refuse(why: str, func: Any) -> None:
        raise AssertionError(f"{why}: {func}")


def _devices(leaves: list[Any]) -> set[str]:
    return {leaf.device.type for leaf in leaves if isinstance(leaf, Tensor)}


def _is_waited_for(func: Any, args: Any) -> bool:
    """Whether the host must know a number of the device's: one that is read, or how many the results are."""
    if func.overloadpacket.__name__.startswith("index") and isinstance(args[1], (list, tuple)):
        return any(i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1])  # by a mask
    return torch.Tag.data_dependent_output in func.tags or torch.Tag.dynamic_output_shape in func.tags


class _Generator(torch.Generator):
    """A generator that says that it is on the given device."""

    def __new__(cls, device: Any = "cpu") -> _Generator:
        generator = super().__new__(cls)
        generator.given = torch.device(device)
        return generator

    @property
    def device(self) -> torch.device:
        return self.given


def _to(module: nn.Module, device: Any) -> nn.Module:
    """`module.to(device)`: PyTorch's exchanges each parameter in place, which fake ones do not bear."""
    for part in module.modules():
        for name, old in part._parameters.items():
            if old is not None:
                new = part._parameters[name] = nn.Parameter(old.detach().to(device))
                vars(new).update({key: value for key, value in vars(old).items() if key not in vars(new)})
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)
    return module


@torch.no_grad()
def _backward(loss: Tensor) -> None:
    """`loss.backward()`, by calling each node of the graph after all nodes that use it, latest first."""
    gradients: dict[Any, list[Tensor | None]] = {loss.grad_fn: [torch.ones_like(loss)]}
    waiting = [(0, 0, loss.grad_fn)]
    while waiting:
        node: Any = heapq.heappop(waiting)[-1]
        given = gradients.pop(node)
        if hasattr(node, "variable"):  # a leaf
            leaf = node.variable
            leaf.grad = given[0] if leaf.grad is None else leaf.grad + given[0]
            continue
        found = node.apply(*given) if hasattr(node, "apply") else node(*given)
        found = found if isinstance(found, tuple) else (found,)
        edges = node.next_functions  # those of tensors; what a Function takes besides comes after them
        assert not any(gradient is not None for gradient in found[len(edges) :])
        for (before, i), gradient in zip(edges, found, strict=False):
            if before is None or gradient is None:
                continue
            about = before._input_metadata
            gradient = gradient.sum_to_size(about[i].shape).to(about[i].dtype)
            if before not in gradients:
                gradients[before] = [None] * len(about)
                heapq.heappush(waiting, (-before._sequence_nr(), len(gradients), before))
            sums = gradients[before]
            sums[i] = gradient if sums[i] is None else sums[i] + gradient


def _with_numbers(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, outside of all modes: data are read with their numbers, and lose them on the device."""

    def call(*given: Any) -> Any:
        with _disable_current_modes():
            return function(*given)

    return call


def _save_shapes(directory: Path, *content: dict[str, Any]) -> None:
    """`save_checkpoint` of tensors without numbers. For this alone: other files are to keep theirs."""
    with torch.serialization.skip_data(materialize_fake_tensors=True):
        save_checkpoint(directory, *content)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """By the kernel that a GPU takes in bfloat16; a CPU build knows the choice for CPUs alone."""
    y: Tensor = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[0]
    return y


@contextmanager
def on_fake_cuda() -> Iterator[None]:
    """A context in which "cuda:0" is there, and no tensor has numbers."""
    _register_guard()
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        stack.enter_context(_shapes_only())
        stack.enter_context(_KnownNumbers())
        patch.setattr(torch, "Generator", _Generator)
        patch.setattr(nn.Module, "to", _to)
        patch.setattr(Tensor, "backward", _backward)
        # PyTorch's copies the mode with its tensor, and the process ends by a signal.
        patch.setattr(FakeTensor, "__deepcopy__", lambda self, memo: self.detach().clone())
        patch.setattr(loop, "_load_data", _with_numbers(loop._load_data))
        patch.setattr(loop, "save_checkpoint", _save_shapes)
        patch.setattr(torch.cuda.device_of, "__enter__", lambda self: None)
        patch.setattr(torch.cuda.device_of, "__exit__", lambda self, *error: None)
        patch.setattr(nn.functional, "scaled_dot_product_attention", _attention)
        patch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        yield
