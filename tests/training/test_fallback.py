"""Out of memory: every fallback needs less memory, none changes the effective batch."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efficientdet import backend
from efficientdet.config import Config
from efficientdet.training.fallback import decide_batch_norm, next_fallback


def climb(config: Config, batch_size: int) -> list[dict]:
    """The changes of all fallbacks, until nothing is left."""
    changes = []
    while fallback := next_fallback(config, batch_size):
        changes.append(fallback[0])
        config = dataclasses.replace(config, **fallback[0])
    return changes


@pytest.mark.parametrize("gpu", [True, False])
def test_mixed_precision_then_remat_then_micro_batches(
    gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "has_gpu", lambda: gpu)
    mixed = [{"mixed_precision": True}] * gpu  # a CPU computes in float32 anyway
    assert climb(Config(), 6) == [
        *mixed,
        {"grad_checkpoint": True},
        {"grad_accum_steps": 2},
        {"grad_accum_steps": 3},
        {"grad_accum_steps": 6},
    ]


def test_what_is_on_already_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "has_gpu", lambda: True)
    config = Config(mixed_precision=True, grad_checkpoint=True, grad_accum_steps=2)
    assert climb(config, 4) == [{"grad_accum_steps": 4}]
    assert climb(config, 2) == []


@settings(deadline=None)
@given(st.integers(1, 300))
def test_every_micro_batch_is_of_one_size_and_smaller_than_before(batch_size: int) -> None:
    steps = [1] + [c["grad_accum_steps"] for c in climb(Config(grad_checkpoint=True), batch_size)]
    assert all(batch_size % count == 0 for count in steps)
    assert steps == sorted(set(steps)) and steps[-1] == batch_size


def test_on_several_devices_each_has_its_part_of_every_micro_batch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(backend, "num_devices", lambda: 2)
    assert climb(Config(grad_checkpoint=True), 12) == [
        {"grad_accum_steps": steps} for steps in (2, 3, 6)
    ]


def test_every_fallback_says_what_it_does() -> None:
    config = Config(grad_checkpoint=True, grad_accum_steps=2)
    assert next_fallback(config, 8)[1] == (
        "grad_accum_steps=4: micro-batches of 2, still 8 images an update"
    )


@pytest.mark.parametrize(
    ("changes", "loaded", "decided"),
    [
        ({}, True, None),  # 8 images are enough
        ({"grad_accum_steps": 2}, True, False),
        ({"grad_accum_steps": 2}, False, None),  # a random network has none worth keeping
        ({"grad_accum_steps": 8, "is_training_bn": True}, True, True),  # somebody said it
        ({"is_training_bn": False}, True, False),
    ],
)
def test_batch_norm_is_decided_by_the_micro_batch(
    changes: dict, loaded: bool, decided: bool | None, said: list[str]
) -> None:
    config = Config(**changes)
    after = decide_batch_norm(config, 8, loaded=loaded)
    assert after == dataclasses.replace(config, is_training_bn=decided)
    expected = "BatchNorm statistics are frozen: 4 images in a micro-batch are too few"
    assert said == [expected] * (after != config)
