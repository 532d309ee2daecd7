"""A trial's failure in words: the trainer's error, bounded, and which kind of failure it is."""

from __future__ import annotations

from sweeps.record.secrets import without_secret

MAX_REASON = 2000  # characters


class WrongReport(ValueError):
    """`trial.report` was called in a wrong way. Another attempt would do the same, so that there is none."""


def bounded(text: str, limit: int = MAX_REASON) -> str:
    """The text with at most `limit` characters, of its beginning and its end, all of which UTF-8 can
    encode."""
    mark = "\n[...]\n"
    if len(text) > limit:
        half = (limit - len(mark)) // 2
        text = f"{text[:half]}{mark}{text[-half:]}"
    return text.encode("utf-8", "replace").decode()


def reason_of(error: BaseException) -> str:
    """The error's type and its whole message, bounded, without passwords in URLs."""
    try:
        message = str(error).strip()
    except Exception:  # an error in the error's own __str__
        message = "its message cannot be shown"
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return bounded(without_secret(text))


def silence_reason(limit: float) -> str:
    return f"no report for {limit:g} s (max_silence_s)"


def outcome_of(error: BaseException, is_measured: bool) -> str:
    """The outcome of a trial that ended with this error: out_of_memory, if its share of a GPU `is_measured`
    and can be enlarged, misused or failed."""
    if isinstance(error, WrongReport):
        return "misused"
    return "out_of_memory" if is_measured and _is_out_of_memory(error) else "failed"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether it is torch's OutOfMemoryError (checked by name, without importing torch) or an error of a CUDA
    library."""
    by_name = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return by_name or any(words in str(error) for words in ("CUDA error: out of memory", "ALLOC_FAILED"))
