"""A trained run -> files for other programs: SavedModel, TFLite, ONNX, each run again by its own."""
