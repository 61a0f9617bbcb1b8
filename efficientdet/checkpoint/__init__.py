"""Stored weights -> this model, with a report of every variable."""
