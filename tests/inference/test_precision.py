"""What a run says about the device and the number format."""

import pytest

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.inference.precision import explain_precision


def test_nothing_to_say_on_a_cpu_machine(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    explain_precision(Config())
    assert said == []


@pytest.mark.parametrize(
    ("devices", "warned"), [(None, True), ("0", True), ("-1", False), ("", False)]
)
def test_a_gpu_that_is_not_seen(
    monkeypatch: pytest.MonkeyPatch, said: list[str], devices: str | None, warned: bool
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(backend, "has_gpu", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if devices is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", devices)
    explain_precision(Config())
    assert bool(said) == warned
    assert all("gpu_check.sh says why" in line for line in said)


def test_mixed_precision_without_a_gpu(monkeypatch: pytest.MonkeyPatch, said: list[str]) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    explain_precision(Config(mixed_precision=True))
    assert said == ["mixed_precision=True: no GPU here, computing in float32"]
