"""EfficientDet on KITTI: from the KITTI download to a fine-tuned, honestly evaluated detector."""

__version__ = "0.1.0"
