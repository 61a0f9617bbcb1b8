"""Measurements and long tests; each file says how it is run."""
