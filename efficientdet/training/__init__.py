"""Optimisation: the train step, schedules, checkpoints of a run, memory."""
