"""A run or a checkpoint -> detector -> detections: evaluation, prediction. Trains nothing."""
