"""Timings of calico beside named alternatives; run with `python -m benchmarks.<name>`."""
