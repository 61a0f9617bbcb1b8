"""One file for each part of `python -m benchmarks`."""
