"""Bytes on disk <-> examples. Knows KITTI and TFRecord; knows no network."""
