"""Arms of two crossed factors, and one beside them."""

from __future__ import annotations

from tests.analysis.synthetic import Fake

LAYERS = {(kind, n): {"model.mixer.kind": kind, "model.num_layers": n}
          for kind in ("mlp", "mamba") for n in (2, 1)}  # fmt: skip
CROSSED = {
    f"{kind}+{n}": Fake(0.2 * n + 0.3, params=100_000 * n, flops=10**7 * n, levels=levels)
    for (kind, n), levels in LAYERS.items()
}
CROSSED["mlp+none"] = Fake(0.4, stop=0.25, levels={"model.mixer.kind": "mlp"})
