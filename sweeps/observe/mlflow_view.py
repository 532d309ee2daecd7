"""What MLflow's UI is to show of a sweep, and the link to it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from sweeps.observe.mlflow_runs import safe_name
from sweeps.record.folder import sweep_id


def view_of(space: Mapping[str, Any], phase: str = "") -> dict[str, Any]:
    """What MLflow's UI is to show of a sweep: charts of its trials (of `phase`, if it is given), sorted by
    the objective, and the curves of the objective and of the scheduler's metric first.

    By itself the UI shows only the parent run, as it expands nested runs only if they are sorted by something
    other than their creation time; and it orders charts by the alphabet, so that `test/...`, single values at
    the end, come before the curves of `val/...`.
    """
    objective, scheduler = space["objective"], space.get("scheduler") or {}
    metrics = [objective["metric"], scheduler.get("metric") or objective["metric"]]
    sections = dict.fromkeys(safe_name(metric).rpartition("/")[0] or "Model metrics" for metric in metrics)
    of_phase = f" and tags.phase = '{phase}'" if phase else ""
    return {
        "searchFilter": f"tags.role = 'trial' and tags.sweep_id = '{sweep_id(space)}'{of_phase}",
        "orderByKey": f"metrics.`{safe_name(objective['metric'])}`",
        "orderByAsc": objective["mode"] == "min",
        "compareRunCharts": [],  # the UI adds those that are missing, and their sections below these
        "compareRunSections": [
            {"uuid": name, "name": name, "display": True, "isReordered": False, "deleted": False}
            for name in sections
        ],
        "isAccordionReordered": True,
    }


def view_key(space: Mapping[str, Any], phase: str = "") -> str:
    return "-".join(re.findall(r"[A-Za-z0-9]+", f"{sweep_id(space)} {phase}"))


def view_link(uri: str, experiment_id: str, key: str) -> str:
    """The page of MLflow's UI with the view under `key`. It holds no user or password: a browser asks.

    Without `workflowType` the UI may open its page for traces of language models.
    """
    server = "http://127.0.0.1:5000"
    if uri.startswith("http"):
        parts = urlsplit(uri)
        server = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path.rstrip('/')}"
    query = f"viewStateShareKey={key}&compareRunsMode=CHART&workflowType=machine_learning"
    return f"{server}/#/experiments/{experiment_id}/runs?{query}"
