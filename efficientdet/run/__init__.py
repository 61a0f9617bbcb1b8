"""A model_dir: its config, checkpoints, metrics and events, written and read back."""
