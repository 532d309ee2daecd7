"""A trial's failure in words: the trainer's error, bounded, and which kind of failure it is."""

from __future__ import annotations

import re

from sweeps.record.secrets import without_secret

MAX_REASON = 2000  # characters

_NO_GPU = (  # what torch says when it starts CUDA
    "No CUDA GPUs are available",
    "Found no NVIDIA driver",
    "The NVIDIA driver on your system is too old",
    "CUDA driver initialization failed",
    "CUDA unknown error",
    "Unexpected error from cudaGetDeviceCount",
    "Torch not compiled with CUDA enabled",
)
# Of CUDA's own texts (cudaGetErrorString) those of kernels, arguments, graphs and memory: another node would
# say the same. "_STATUS_" is of a library, such as cuBLAS, mostly for want of memory.
_OF_THE_PROGRAM = (
    "assert", "illegal", "misaligned", "launch", "address space", "program counter", "stack error",
    "invalid argument", "invalid configuration", "invalid device ordinal", "invalid resource handle",
    "captur", "out of memory", "_STATUS_",
)  # fmt: skip


class WrongReport(ValueError):
    """`trial.report` was called in a wrong way. Another attempt would do the same, so that there is none."""


def bounded(text: str) -> str:
    """The text with at most MAX_REASON characters, of its beginning and its end, all of which UTF-8 can
    encode."""
    mark = "\n[...]\n"
    if len(text) > MAX_REASON:
        half = (MAX_REASON - len(mark)) // 2
        text = f"{text[:half]}{mark}{text[-half:]}"
    return text.encode("utf-8", "replace").decode()


def reason_of(error: BaseException) -> str:
    """The error's type and its whole message, bounded, without passwords in URLs."""
    message = _message(error, "its message cannot be shown").strip()
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return bounded(without_secret(text))


def silence_reason(limit: float) -> str:
    return f"no report for {limit:g} s (max_silence_s)"


def outcome_of(error: BaseException, is_measured: bool, begins_on_gpu: bool) -> str:
    """The outcome of a trial that ended with this error: out_of_memory, if its share of a GPU `is_measured`
    and can be enlarged; lost, if a trial with a GPU that has not reported yet (`begins_on_gpu`) cannot use
    it; misused or failed."""
    if isinstance(error, WrongReport):
        return "misused"
    if _is_out_of_memory(error):
        return "out_of_memory" if is_measured else "failed"
    return "lost" if begins_on_gpu and _is_of_the_gpu(error) else "failed"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's OutOfMemoryError (checked by name, without importing torch) or an error of a CUDA
    library."""
    by_name = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return by_name or any(words in _message(error) for words in ("CUDA error: out of memory", "ALLOC_FAILED"))


def _is_of_the_gpu(error: BaseException) -> bool:
    """Whether torch says that it finds no GPU or driver, or that CUDA fails in a way that no program causes.
    It raises AcceleratorError or RuntimeError for all kinds of errors; only the text tells them apart."""
    text = _message(error)
    if any(words in text for words in _NO_GPU):
        return True
    of_cuda = re.search("CUDA(?: driver)? error: (.*)", text)  # to the line's end: advice follows
    return of_cuda is not None and not any(words in of_cuda[1] for words in _OF_THE_PROGRAM)


def _message(error: BaseException, otherwise: str = "") -> str:
    try:
        return str(error)
    except Exception:  # an error in the error's own __str__
        return otherwise
