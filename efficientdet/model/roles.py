"""What a row of boxes is in a batch, and an anchor in a target, apart from an object.

An object has its class id 1..K in a batch and its channel 0..K-1 in a target. (In a record an
ignore region has `is_crowd` 1.)
"""

PADDING = 0  # a row of a batch without a box
BACKGROUND = -1  # an anchor without an object
IGNORE = -2  # a region, or an anchor inside one, of which nothing is learnt
