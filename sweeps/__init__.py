"""Ablation sweeps: a search space in YAML, planned, scheduled by Ray Tune, recorded, and reported."""

__version__ = "0.1.0"
