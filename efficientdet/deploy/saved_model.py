"""The graph as a SavedModel: images of any size, what it says of itself in assets/."""

import tempfile
from pathlib import Path

from efficientdet.atomic import atomic_folder
from efficientdet.deploy.serving import Serving, trace
from efficientdet.inference.export_info import FILE_NAME, ExportInfo
from efficientdet.tensorflow_device import tf


def write(serving: Serving, info: ExportInfo, target: Path) -> None:
    """Writes the folder `target`; signature `serving_default`: `images` -> `Serving.detect`.

    Its assets are `export.json`, the run's `config.yaml` and `label_map.txt`.
    """
    spec = tf.TensorSpec([None, None, None, 3], tf.uint8, name="images")
    traced = trace(serving.detect, spec)
    with tempfile.TemporaryDirectory() as assets, atomic_folder(target) as folder:
        (Path(assets) / FILE_NAME).write_text(info.to_json(), encoding="utf-8")
        info.config.save(Path(assets) / "config.yaml")
        info.label_map.write(Path(assets) / "label_map.txt")
        files = sorted(Path(assets).iterdir())
        traced.module.assets = [tf.saved_model.Asset(str(path)) for path in files]
        tf.saved_model.save(traced.module, str(folder), signatures=traced.function)
