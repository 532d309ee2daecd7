"""A Ray cluster of several nodes on this machine: `python -m tests.faults.cluster NODES`.

The head has no cores for trials, each other node has one. Prints the cluster's address, then takes a line at
a time from its input: `kill` takes a node away as a power cut would, `add` adds one, `add WORD` one whose
processes have SICK_NODE=WORD in their environment. The input's end ends the cluster.
"""

from __future__ import annotations

import os
import sys

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # all of it listens on the loopback only

from ray.cluster_utils import Cluster


def main(nodes: int) -> None:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        others = [cluster.add_node(num_cpus=1) for _ in range(nodes)]
        print(cluster.address, flush=True)
        for line in sys.stdin:
            if line == "kill\n":
                cluster.remove_node(others.pop(), allow_graceful=False)
            else:
                word = line.removeprefix("add").strip()
                others.append(
                    cluster.add_node(num_cpus=1, **{"env_vars": {"SICK_NODE": word}} if word else {})
                )
            print("done", flush=True)
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]))
