"""Detections + ground truth -> metrics, in numpy; knows no network."""
