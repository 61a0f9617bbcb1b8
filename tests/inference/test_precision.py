"""What a run says about the device and the number format."""

import pytest

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.inference.precision import explain_precision


def said(config: Config) -> list[str]:
    lines: list[str] = []
    explain_precision(config, lines.append)
    return lines


def test_nothing_to_say_on_a_cpu_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert said(Config()) == []


@pytest.mark.parametrize(
    ("devices", "warned"), [(None, True), ("0", True), ("-1", False), ("", False)]
)
def test_a_gpu_that_is_not_seen(
    monkeypatch: pytest.MonkeyPatch, devices: str | None, warned: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if devices is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    lines = said(Config())
    assert bool(lines) == warned
    assert all("gpu_check.sh says why" in line for line in lines)


def test_mixed_precision_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert said(Config(mixed_precision=True)) == [
        "mixed_precision=True: no GPU here, computing in float32"
    ]
