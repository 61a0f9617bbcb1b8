"""Is a record fit to train on, and what is in it? Rules, coverage by anchors, the report."""
