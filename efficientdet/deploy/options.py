"""What an export is to make of what."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from efficientdet.checkpoint.class_rows import ClassMode

FORMATS = ("saved_model", "tflite", "onnx")
PRECISIONS = ("fp32", "fp16", "int8")


@dataclass(frozen=True)
class ExportOptions:
    """The flags of export.py, under their names.

    Attributes:
        which: of `model_dir`: `best` is in `archive/`; None takes it where there is one, else the
            newest.
        ckpt: instead of a checkpoint of `model_dir`.
        format: of `FORMATS`.
        quantize: of `PRECISIONS`, one TFLite file each.
        calibration: records for int8.
        image_size: instead of the run's.
        nms: False: boxes and scores of all anchors come out.
        val_file_pattern: records to run the exports on; None: a few made-up images.
        eval_samples: the first so many of them.
    """

    model_dir: str
    output_dir: str
    format: Sequence[str] = FORMATS
    quantize: Sequence[str] = ("fp32",)
    model_name: str | None = None
    which: Literal["best", "newest"] | None = None
    ckpt: str | None = None
    ckpt_classes: ClassMode = "auto"
    calibration: str | None = None
    image_size: str | None = None
    nms: bool = True
    val_file_pattern: str | None = None
    eval_samples: int | None = None
    overwrite: bool = False
