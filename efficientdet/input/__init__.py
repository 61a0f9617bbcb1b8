"""Records -> batches."""
