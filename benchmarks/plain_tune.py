"""What `benchmarks.overhead` compares with: plain Ray Tune, as its documentation has it. Run as a process.

`python -m benchmarks.plain_tune OUT.json --trials 16 --reports 10 [--mlflow]`: a function trainable that
reports with a checkpoint. With --mlflow, Tune's MLflow callback writes to a new sqlite store; its other
loggers stay on. OUT.json gets the time of each trial's end, in seconds since the process began.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

BEGAN = time.time()
os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # listen on the loopback alone
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import ray  # noqa: E402
from ray import tune  # noqa: E402

from benchmarks.noop import STATE  # noqa: E402


def trainable(config: dict[str, Any]) -> None:
    for step in range(1, config["reports"] + 1):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "state").write_bytes(STATE)
            tune.report(
                {"samples": step, "val/accuracy": config["level"] + 0.001 * step},
                checkpoint=tune.Checkpoint.from_directory(folder),
            )


class Ends(tune.Callback):
    """When the first report came, and when each trial ended."""

    def __init__(self) -> None:
        self.first_report_s = 0.0
        self.ends_s: list[float] = []

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
        self.first_report_s = self.first_report_s or time.time() - BEGAN

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        self.ends_s.append(time.time() - BEGAN)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--reports", type=int, default=10)
    parser.add_argument("--mlflow", action="store_true")
    given = parser.parse_args()
    ends = Ends()
    with tempfile.TemporaryDirectory() as folder:
        callbacks: list[tune.Callback] = [ends]
        if given.mlflow:
            from ray.air.integrations.mlflow import MLflowLoggerCallback

            uri = f"sqlite:///{folder}/mlflow.db"
            callbacks.append(MLflowLoggerCallback(tracking_uri=uri, experiment_name="plain"))
        ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
        tune.Tuner(
            tune.with_resources(trainable, {"cpu": 1}),
            param_space={"level": tune.grid_search(list(range(given.trials))), "reports": given.reports},
            run_config=tune.RunConfig(storage_path=folder, name="plain", callbacks=callbacks, verbose=0),
        ).fit()
        ray.shutdown()
    given.out.write_text(json.dumps({"first_report_s": ends.first_report_s, "ends_s": ends.ends_s}))


if __name__ == "__main__":
    main()
