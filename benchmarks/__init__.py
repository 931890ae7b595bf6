"""Benchmarks against mmdet: ``make bench``, or ``python -m benchmarks --help``."""
