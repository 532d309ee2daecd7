"""TRM, the Tiny Recursive Model (arXiv 2510.04871), with replaceable token mixers, and its trainer."""

__version__ = "0.1.0"
