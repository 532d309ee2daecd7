"""What stands in for mamba_ssm's kernels, which need a GPU: its autograd functions, computed by the loops."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import torch

from tests.trm.mixers.reference import scan_loop, ssd_loop


class OfALoop(torch.autograd.Function):
    """An autograd function whose gradients are those of a loop over the tokens."""

    @classmethod
    def backward(cls, ctx, dy):
        inputs = [v.detach().double().requires_grad_() for v in ctx.saved_tensors]
        with ThreadPoolExecutor(1) as thread:  # in this one no gradient is recorded inside an operator
            found = thread.submit(lambda: torch.autograd.grad(cls.loop(*inputs), inputs, dy.double()))
            return *found.result(), None, None


class SelectiveScanFn(OfALoop):
    """(B, E, L) tensors of one dtype, dense."""

    @staticmethod
    def loop(u, dt, A, B, C, D):
        return scan_loop(u.mT, dt.mT, A, B.mT, C.mT, D).mT

    @classmethod
    def forward(cls, ctx, u, dt, A, B, C, D):
        assert u.dtype == dt.dtype == A.dtype == B.dtype == C.dtype == D.dtype
        assert all(v.is_contiguous() for v in (u, dt, A, B, C, D))
        ctx.save_for_backward(u, dt, A, B, C, D)
        return cls.loop(u, dt, A, B, C, D)


class MambaChunkScanCombinedFn(OfALoop):
    loop = staticmethod(ssd_loop)

    @classmethod
    def forward(cls, ctx, x, dt, A, B, C, chunk_size):
        ctx.save_for_backward(x, dt, A, B, C)
        return cls.loop(x, dt, A, B, C)
