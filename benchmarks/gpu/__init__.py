"""What `python -m benchmarks.on_gpu` does on the card: a file for each part, and how they run."""
