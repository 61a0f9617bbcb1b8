"""Tensors -> tensors, in keras.ops only. Knows no files."""
