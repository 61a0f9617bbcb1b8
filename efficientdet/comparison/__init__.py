"""Several runs held against each other: configs, curves, detections on the same frames."""
