"""A made-up street in KITTI's format."""
