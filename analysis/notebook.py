"""Run a notebook of analysis/notebooks on a sweep: a copy with another SWEEP_DIR in its first code cell."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from analysis.sweep import AnalysisError, load_sweep

NOTEBOOKS = Path(__file__).parent / "notebooks"
_SWEEP_DIR = re.compile(r"^SWEEP_DIR = .*$", re.MULTILINE)


def write_notebook(name: str, folder: Path | None, client: Any = None) -> Path:
    """Run the notebook on the sweep in `folder` and write it there; without a folder, run it on the sweep
    that it names, and write it in its own place.

    `client` is one of `new_client` whose kernel runs; by default a kernel is started and ended. Raises
    AnalysisError.
    """
    source = NOTEBOOKS / f"{name}.ipynb"
    there = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    if name not in there:
        known = f"there are: {', '.join(there)}" if there else "they come with a checkout of the repository"
        raise AnalysisError(f"there is no notebook {name}: {known}")
    if folder is not None:
        load_sweep(folder)  # what is wrong with it is said before a kernel starts
    notebook = run_notebook(source, folder, client)
    out = source if folder is None else folder / source.name
    out.write_text(_nbformat().writes(notebook) + "\n", encoding="utf-8")
    return out


def run_notebook(source: Path, folder: Path | None = None, client: Any = None) -> Any:
    """The notebook with the outputs of a run, and nothing that differs from run to run. For `folder` and
    `client` see `write_notebook`."""
    notebook = _nbformat().read(source, as_version=4)
    if folder is not None:
        first = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
        given = f"SWEEP_DIR = {str(folder.resolve())!r}"
        first.source = _SWEEP_DIR.sub(lambda _: given, first.source, count=1)
    execute(notebook, client)
    notebook.metadata["language_info"] = {"name": "python"}  # without the version
    return notebook


def execute(notebook: Any, client: Any = None) -> None:
    """Fill in the notebook's outputs. Raises AnalysisError where a cell does."""
    from nbclient.exceptions import CellExecutionError

    user = client or new_client(notebook)
    user.nb = notebook
    try:
        user.execute(cleanup_kc=client is None)
    except CellExecutionError as error:
        if error.ename != AnalysisError.__name__:
            raise
        raise AnalysisError(error.evalue) from error


def new_client(notebook: Any) -> Any:
    """Of nbclient, in the repository's folder."""
    from nbclient import NotebookClient

    return NotebookClient(
        notebook,
        record_timing=False,
        timeout=600,
        resources={"metadata": {"path": str(NOTEBOOKS.parents[1])}},
        extra_arguments=["--log-level=ERROR"],  # without its warning of TCP: it listens on 127.0.0.1 alone
    )


def _nbformat() -> Any:
    try:
        import nbclient  # noqa: F401
        import nbformat
    except ImportError as error:
        raise AnalysisError(
            f"{error.name} is missing, which runs notebooks: `pip install '.[notebooks]'` installs it"
        ) from error
    return nbformat
