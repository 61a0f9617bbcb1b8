"""A trained run -> SavedModel, TFLite and ONNX, each run again by its own runtime."""
