"""Beside JAX TensorFlow sees no GPU, by whichever module it came in."""

import ast
import importlib
from pathlib import Path

import pytest
import tensorflow as tf

from efficientdet import tensorflow_device

PACKAGE = Path(tensorflow_device.__file__).parent


@pytest.mark.parametrize(("backend", "hidden"), [("jax", [([], "GPU")]), ("tensorflow", [])])
def test_only_beside_jax(backend, hidden, monkeypatch):
    calls = []
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *args: calls.append(args))
    monkeypatch.setenv("KERAS_BACKEND", backend)
    importlib.reload(tensorflow_device)
    assert calls == hidden


def test_too_late_is_said(monkeypatch):
    def refuse(*args):
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", refuse)
    with pytest.warns(UserWarning, match="before the first TensorFlow tensor"):
        tensorflow_device.leave_gpu()


def imports(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_every_module_that_imports_tensorflow_brings_it_along():
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): imports(path)
        for path in PACKAGE.rglob("*.py")
    }

    def reached(name: str, seen: set[str]) -> set[str]:
        for other in modules[name] & modules.keys() - seen:
            seen |= reached(other, seen | {other})
        return seen

    users = {name for name, found in modules.items() if "tensorflow" in found}
    assert len(users) > 8
    for name in users - {"efficientdet.tensorflow_device"}:
        assert "efficientdet.tensorflow_device" in reached(name, {name}), name
