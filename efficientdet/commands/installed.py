"""Says in one line which requirements are not installed; commands import it before all else."""

import sys
from importlib.util import find_spec
from pathlib import Path

# Module: distribution. The same as in requirements.txt.
REQUIRED = {
    "tensorflow": "tensorflow",
    "keras": "keras",
    "numpy": "numpy",
    "PIL": "Pillow",
    "absl": "absl-py",
    "yaml": "PyYAML",
    "pycocotools": "pycocotools",
    "tensorboard": "tensorboard",
    "rich": "rich",
    "matplotlib": "matplotlib",
    "jinja2": "Jinja2",
    "google_crc32c": "google-crc32c",
    "imagehash": "ImageHash",
}

_missing = [name for module, name in REQUIRED.items() if find_spec(module) is None]
if _missing:
    _file = Path(__file__).resolve().parents[2] / "requirements.txt"
    print(
        f"error: not installed: {', '.join(_missing)}; "
        f"run {sys.executable} -m pip install -r {_file}",
        file=sys.stderr,
    )
    sys.exit(1)
