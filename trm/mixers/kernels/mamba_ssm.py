"""The GPU kernels of the official package mamba_ssm as operators: `backend: mamba_ssm`.

Not yet run on a GPU.

The operators call `forward` and `backward` of the package's autograd functions themselves, as no gradient is
recorded inside an operator. The backward pass first repeats the forward pass: only the inputs are kept.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from trm.mixers.kernels.operators import register

SCAN = ("selective_scan_cuda", "mamba_ssm.ops.selective_scan_interface")
CHUNK_SCAN = ("mamba_ssm.ops.triton.ssd_combined",)


def why_missing(modules: Iterable[str]) -> str | None:
    """The reason why one of the modules cannot be imported here, or None."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a library of another version of torch or CUDA fails in many ways
            return f"{module}: {type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    return None


class _Context:
    """What an autograd function keeps between its forward and backward pass."""

    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors


def selective_scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, reverse: bool
) -> Tensor:
    """As `trm.mixers.kernels.scan.selective_scan`, but the dtypes of x, B and C change nothing in speed."""
    y: Tensor = torch.ops.trm.mamba_ssm_scan(x, dt, A, B, C, D, reverse)
    return y


def chunk_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, chunk_size: int) -> Tensor:
    """As `trm.mixers.kernels.ssd.ssd`."""
    y: Tensor = torch.ops.trm.mamba_ssm_chunk_scan(x, dt, A, B, C, chunk_size)
    return y


def _scan(*arguments: Any) -> Tensor:
    *inputs, reverse = arguments
    y = _scan_forward(_Context(), inputs, reverse).to(inputs[0].dtype)
    return _tokens_first(y, reverse)


def _scan_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    from mamba_ssm.ops.selective_scan_interface import SelectiveScanFn

    *inputs, dy, reverse = arguments
    context = _Context()
    _scan_forward(context, inputs, reverse)
    dy = _tokens_last(dy.to(inputs[1].dtype), reverse)
    dx, ddt, dA, dB, dC, dD = SelectiveScanFn.backward(context, dy)[:6]
    dx, ddt, dB, dC = (_tokens_first(v, reverse) for v in (dx, ddt, dB, dC))
    return _like(inputs, (dx, ddt, dA, dB, dC, dD))


def _scan_forward(context: _Context, inputs: list[Tensor], reverse: bool) -> Tensor:
    """The kernel requires one dtype for all, tokens last, and scans forward only. The dtype is that of dt, as
    bfloat16 is too coarse for step sizes."""
    from mamba_ssm.ops.selective_scan_interface import SelectiveScanFn

    x, dt, A, B, C, D = (v.to(inputs[1].dtype) for v in inputs)
    x, dt, B, C = (_tokens_last(v, reverse) for v in (x, dt, B, C))
    y: Tensor = SelectiveScanFn.forward(context, x, dt, A.contiguous(), B, C, D)
    return y


def _tokens_last(v: Tensor, reverse: bool) -> Tensor:
    return (v.flip(1) if reverse else v).transpose(1, 2).contiguous()


def _tokens_first(v: Tensor, reverse: bool) -> Tensor:
    v = v.transpose(1, 2)
    return v.flip(1) if reverse else v.contiguous()


def _chunk_scan(*arguments: Any) -> Tensor:
    from mamba_ssm.ops.triton.ssd_combined import MambaChunkScanCombinedFn

    y: Tensor = MambaChunkScanCombinedFn.forward(_Context(), *arguments)
    return y.contiguous()


def _chunk_scan_gradients(*arguments: Any) -> tuple[Tensor, ...]:
    from mamba_ssm.ops.triton.ssd_combined import MambaChunkScanCombinedFn

    *inputs, dy, chunk_size = arguments
    context = _Context()
    MambaChunkScanCombinedFn.forward(context, *inputs, chunk_size)
    return _like(inputs, MambaChunkScanCombinedFn.backward(context, dy.contiguous())[:5])


def _like(inputs: list[Tensor], gradients: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(g.to(v.dtype).contiguous() for g, v in zip(gradients, inputs, strict=True))


def _shape_of_x(x: Tensor, *_: Any) -> Tensor:
    return x.new_empty(x.shape)


register("mamba_ssm_scan", "x dt A B C D", "bool:reverse", _scan, _shape_of_x, _scan_gradients)
register(
    "mamba_ssm_chunk_scan", "x dt A B C", "int:chunk_size", _chunk_scan, _shape_of_x, _chunk_scan_gradients
)
