"""TRM (Tiny Recursive Model, arXiv 2510.04871) with interchangeable token mixers, and its trainer."""
