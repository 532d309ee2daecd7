"""The Triton scan without a GPU: its numbers in Triton's interpreter, and that it compiles."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import ROOT
from tests.trm.mixers.kernels.test_scan import inputs_of
from trm.mixers.kernels import parity
from trm.mixers.kernels import scan as module

HERE = Path(__file__).parent
needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton: pip install '.[kernels]'"
)


def run(*command: str, **environment: str) -> str:
    """What Python prints. In a process of its own, as Triton reads its environment when it is imported."""
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    return done.stdout


@needs_triton
@pytest.mark.timeout(600)
def test_in_tritons_interpreter() -> None:
    said = run(
        "-m", "pytest", "-x", "-q", "--timeout=0", str(HERE / "interpreted_scan.py"), TRITON_INTERPRET="1"
    )
    assert "skipped" not in said


@needs_triton
@pytest.mark.timeout(600)
def test_it_compiles_for_a_gpu_and_its_states_fit_in_registers(tmp_path) -> None:
    """By Triton's own assembler, for the arguments of real calls; 9.0 is the capability of an H100."""
    said = run("-m", "tests.trm.mixers.kernels.compile_scan", "90", TRITON_CACHE_DIR=str(tmp_path))
    compiled = [json.loads(line) for line in said.splitlines()]
    assert {each["kernel"] for each in compiled} == {"_scan_kernel", "_gradients_kernel"}
    assert len(compiled) == 8 and not any(each["spilled"] for each in compiled)


def test_on_a_gpu_it_is_triton_for_float32_unless_it_is_turned_off(monkeypatch) -> None:
    in_triton = module.IN_TORCH._replace()
    monkeypatch.setattr(module, "_in_triton", lambda: in_triton)

    def chosen(dtype: torch.dtype, compiled: bool) -> bool:
        return module._stepper(torch.device("cuda"), dtype, compiled) is in_triton

    assert chosen(torch.float32, compiled=True)
    assert not chosen(torch.float32, compiled=False) and not chosen(torch.float64, compiled=True)


@pytest.mark.parametrize("missing", [False, True])
def test_a_gpu_without_triton_scans_in_torch_and_says_so_once(missing, monkeypatch, caplog) -> None:
    """Without the package; and with it, where it cannot compile, as here without a GPU."""
    if missing:
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.delitem(sys.modules, "trm.mixers.kernels.scan_triton", raising=False)
    elif torch.cuda.is_available() or importlib.util.find_spec("triton") is None:
        pytest.skip("needs Triton, and no GPU")
    on_a_gpu = torch.device("cuda"), torch.float32
    module._in_triton.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert module._stepper(*on_a_gpu, True) is module._stepper(*on_a_gpu, True) is module.IN_TORCH
    finally:
        module._in_triton.cache_clear()
    assert len(caplog.records) == 1
    assert "many times slower" in caplog.text and "pip install 'trm-sweeps[kernels]'" in caplog.text


def test_the_check_for_a_gpu_finds_what_is_wrong(monkeypatch) -> None:
    """Here of the CPU's implementation, and of one whose gradients are wrong."""
    cases = [parity.Case(2, 9, 5, 3, (1e-3, 20.0))]
    assert max(parity.worst_errors("cpu", torch.float32, cases).values()) < 2e-6
    original = module.IN_TORCH

    def wrong(inputs, dy, checkpoints, reverse, every):
        dx, ddt, dA, *others = original.gradients(inputs, dy, checkpoints, reverse, every)
        return dx, ddt, dA * (1.01 if dy.dtype == torch.float32 else 1), *others

    monkeypatch.setattr(module, "library", lambda source: None)
    monkeypatch.setattr(module, "IN_TORCH", original._replace(gradients=wrong))
    errors = parity.worst_errors("cpu", torch.float32, cases)
    assert errors.pop("dA") == pytest.approx(0.01, rel=0.01) and max(errors.values()) < 2e-6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 1e-5), (torch.bfloat16, 4e-3)])
def test_on_a_gpu_it_equals_the_loop_in_float64(dtype, bound) -> None:
    assert module._in_triton() is not None
    assert max(parity.worst_errors("cuda", dtype).values()) < bound


def test_the_largest_error_is_never_hidden_by_what_is_not_a_number(monkeypatch) -> None:
    inputs = inputs_of(3)[0]
    spoilt = [torch.full_like(inputs[0], torch.nan), *inputs]
    clean = [torch.zeros_like(v) for v in spoilt]
    monkeypatch.setattr(
        parity, "_computed", lambda given, dy, reverse: clean if given[0].dtype == torch.float64 else spoilt
    )
    assert parity.worst_errors("cpu", torch.float32, [parity.Case(1, 3, 5, 3, (0.0, 1.0))])["y"] == torch.inf
