"""The flags by which predict.py and main.py take an exported file instead of a run."""

from pathlib import Path

from absl import flags

from efficientdet.errors import UsageError

flags.disclaim_key_flags()  # they belong to the command that defines them
_SUFFIXES = {"saved_model": "", "tflite": ".tflite", "onnx": ".onnx"}


def define_flags() -> None:
    """`--saved_model`, `--tflite`, `--onnx`."""
    texts = {"saved_model": "The folder of a SavedModel", "tflite": "A TFLite file", "onnx": "ONNX"}
    for name, text in texts.items():
        flags.DEFINE_string(name, None, f"{text} of export.py, instead of a checkpoint.")


def chosen() -> str | None:
    """The path of the exported file that is named; `--ckpt` may name one, too.

    Raises:
        UsageError: two are, or a checkpoint beside it; a path that no such file has.
    """
    values = flags.FLAGS
    given = [name for name in _SUFFIXES if values[name].value]
    if not given:
        path = Path(values.ckpt or "")
        is_export = path.suffix in (".tflite", ".onnx") or (path / "saved_model.pb").is_file()
        return values.ckpt if is_export else None
    others = [name for name in (*given[1:], "ckpt", "best", "newest") if name in values]
    others = [name for name in others if values[name].value]
    if others:
        raise UsageError(f"--{given[0]} and --{others[0]} exclude each other: take one of the two")
    path = Path(values[given[0]].value)
    if path.suffix in _SUFFIXES.values() and path.suffix != _SUFFIXES[given[0]] and path.is_file():
        raise UsageError(f"--{given[0]}={path}: say --{path.suffix[1:]}={path}")
    if not path.exists():
        raise UsageError(f"--{given[0]}={path}: it is not there")
    return str(path)
