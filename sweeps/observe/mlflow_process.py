"""The process that writes a sweep to MLflow, as its launch sees it (`sweeps.observe.mlflow_child`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sweeps.observe.mlflow_runs import absolute_uri
from sweeps.record.file_names import JOURNAL
from sweeps.record.mlflow_file import FILE, MlflowFile
from sweeps.record.secrets import without_secret

ATTACH = "attach"  # the line on its input that says that the report is written, and that this is the end
# How long the end of a launch waits for a process that makes no progress. In its first seconds it says
# nothing, as it imports MLflow, and MLflow makes the tables of a new store: 9 to 25 s on two cores.
SILENCE_S = 5.0
FIRST_CONTACT_S = 40.0  # since its start
_EVERY_S = 0.1  # between two looks at mlflow.json


class MlflowProcess:
    """Started at once. It ends with `attach` or `close`, and by itself if this process dies.

    `checkpoints` is the folder or URL of the sweep's checkpoints. Raises OSError if it cannot be started.
    """

    def __init__(self, folder: Path, uri: str, checkpoints: str) -> None:
        self._folder = folder
        self._store = without_secret(absolute_uri(uri))
        self._began = time.monotonic()
        self._found = self._seen = self._modified()  # what an earlier launch left
        self._has_answered = False
        path = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
        with (folder / "logs" / "driver.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sweeps.observe.mlflow_child", str(folder.resolve())],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, path))},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                process_group=0,  # a terminal's signals are for the launch alone
            )
        self._say(json.dumps({"uri": absolute_uri(uri), "checkpoints": checkpoints}))

    @property
    def link(self) -> str:
        """The sweep's page in MLflow's UI; '' before this process or an earlier one has reached the store."""
        found = MlflowFile.read(self._folder)
        return found.link if found.store == self._store else ""

    def drain(self) -> str:
        """Wait until MLflow has the whole journal. Returns why it does not have all, or ''."""
        size = (self._folder / JOURNAL).stat().st_size
        return self._wait(lambda: self._has_answered and MlflowFile.read(self._folder).offset >= size)

    def attach(self) -> str:
        """Attach the sweep's report, and wait for the end. Returns why MLflow does not have it, or ''."""
        self._say(ATTACH)
        error = self._wait(lambda: self._process.poll() == 0)
        self.close()
        return error

    def close(self) -> None:
        """End the process, whatever it does."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended
            self._process.stdin.close()  # which ends it
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended
            print(line, file=self._process.stdin, flush=True)

    def _wait(self, done: Callable[[], bool]) -> str:
        """Wait until it is `done`, as long as there is progress. Else end the process, and return why."""
        last = time.monotonic()
        while True:
            has_ended = self._process.poll() is not None
            if self._has_progressed():
                last = time.monotonic()
            if done():
                return ""
            error = MlflowFile.read(self._folder).error if self._seen != self._found else ""
            first = 0.0 if self._has_answered or error else self._began + FIRST_CONTACT_S
            if has_ended or time.monotonic() > max(last + SILENCE_S, first):
                self.close()
                reason = f"the store has not answered for {SILENCE_S:g} s"
                if not self._has_answered:
                    reason = "the store has not answered at all"
                if has_ended:
                    reason = f"its process has ended; see {self._folder / 'logs' / 'driver.log'}"
                return error or reason
            time.sleep(_EVERY_S)

    def _has_progressed(self) -> bool:
        """Whether the store has answered since the last call. mlflow.json is written when it has answered, at
        the most every SAVE_S, and when it has failed; while it hangs nothing is written."""
        modified = self._modified()
        if modified == self._seen:
            return False
        self._seen = modified
        answered = not MlflowFile.read(self._folder).error
        self._has_answered |= answered
        return answered

    def _modified(self) -> int:
        """When mlflow.json was written, in nanoseconds; 0 if there is none."""
        try:
            return (self._folder / FILE).stat().st_mtime_ns
        except OSError:
            return 0
