"""Whole steps of a network of three blocks, compiled by XLA on the CPU as on a GPU.

KERAS_BACKEND=jax python tests/compiled_steps.py prints JSON. With jax, TensorFlow cannot be
imported until the network, its steps and its detections are done.
"""

import importlib.abc
import json
import os
import sys
import tempfile
from dataclasses import replace

IS_JAX = os.environ["KERAS_BACKEND"] == "jax"


class NoTensorFlow(importlib.abc.MetaPathFinder):
    """As where it is not installed."""

    def find_spec(self, name: str, *_: object) -> None:
        if name.partition(".")[0] == "tensorflow":
            raise ModuleNotFoundError(f"{name} is not installed here")


if IS_JAX:
    sys.meta_path.insert(0, NoTensorFlow())

import numpy as np  # noqa: E402

from efficientdet import backend  # noqa: E402
from efficientdet.config import Config  # noqa: E402
from efficientdet.model import efficientnet  # noqa: E402
from efficientdet.training import engine as engines  # noqa: E402

SMALL = {
    "backbone_name": "efficientnet-tiny", "survival_prob": 1.0, "fpn_num_filters": 8,
    "image_size": 64, "num_classes": 2, "fpn_cell_repeats": 1, "box_class_repeats": 0,
    "max_level": 4, "num_scales": 1, "learning_rate": 0.08,
}  # fmt: skip
# Policy, remat, micro-batches: each two of them in one of the rows, with those of `recovery`.
ROWS = {
    True: [("mixed_bfloat16", False, 2), ("mixed_float16", True, 1)],
    False: [("mixed_bfloat16", True, 1), ("mixed_float16", False, 2)],
}
RNG = np.random.default_rng(0)
BATCH = {
    "images": RNG.normal(size=(2, 64, 64, 3)).astype(np.float32),
    "boxes": np.tile(np.float32([[10, 20, 50, 60], [5, 5, 30, 30], [0, 40, 60, 60]]), (2, 1, 1)),
    "classes": np.tile(np.int32([1, 2, -1]), (2, 1)),
    "source_id": np.array([b"a", b"b"]),
}


def make(
    policy: str = "float32", remat: bool = False, accum: int = 1, **more
) -> engines.TrainingEngine:
    engines.compute_policy = lambda config: policy
    changes = {"grad_checkpoint": remat, "grad_accum_steps": accum, **more}
    return engines.TrainingEngine(Config.for_model("efficientdet-d0").override(SMALL | changes))


def known_weights(engine: engines.TrainingEngine) -> None:
    """The same on both backends, whose random numbers differ."""
    arrays = engine.state.arrays()
    for name in sorted(arrays):
        if name.endswith("kernel"):
            arrays[name] = RNG.normal(scale=0.2, size=arrays[name].shape).astype(np.float32)
    engine.state.load(arrays)
    engine.state.reset_shadows()


def update(engine: engines.TrainingEngine, step: int, batch: dict = BATCH) -> dict[str, float]:
    return engine.update(batch, step=step, learning_rate=0.01)


def same(first: dict, second: dict, but: str = "") -> bool:
    return all(np.array_equal(first[n], second[n]) for n in first if not but or but not in n)


def row(policy: str, remat: bool, accum: int) -> dict:
    """Three steps, and one with a NaN in it."""
    engine = make(policy, remat, accum)
    logs = [update(engine, step) for step in range(3)]
    before = engine.state.arrays()
    bad = BATCH["images"].copy()
    bad[1, 5, 5, 0] = np.nan
    logs.append(update(engine, 3, BATCH | {"images": bad}))
    kept = same(before, engine.state.arrays(), but="state/")
    return {"row": [policy, remat, accum], "logs": logs, "kept": kept}


def detections(engine: engines.TrainingEngine) -> list:
    rest = {"image_scale": np.ones((2, 2), np.float32), "valid": np.ones(2, bool)}
    batch = BATCH | rest | {"original_hw": np.full((2, 2), 64)}
    frames, sums = engine.detector().evaluate(batch)
    return [[len(frame.scores) for frame in frames], sums]


def recovery(engine: engines.TrainingEngine) -> dict:
    """Out of memory twice in a step: the state goes with it, then it stays."""
    first, _ = (update(engine, step) for step in range(2))
    arrays = engine.state.arrays()
    copies = {name: array.copy() for name, array in arrays.items()}
    old = engine.state.read()
    expected = update(engine, 2), engine.state.arrays()
    found = {"given": backend.is_lost(old), "untouched": same(arrays, copies)}
    engine.state.load(arrays)

    def failing(batch: dict, **_: object) -> None:
        for values in engine.state.read().values() if IS_JAX else ():
            for value in values:
                value.delete()
        raise MemoryError("injected")

    def failing_early(batch: dict, **_: object) -> None:
        raise MemoryError("injected")

    engine.step = failing
    try:
        engine.dispatch(BATCH, step=2, learning_rate=0.01)
        found["lost"] = False
    except engines.StateLost:
        found["lost"] = True
        engine.state.load(arrays)
        engine.step = failing_early
    logs = update(engine, 2)
    config, after = engine.config, engine.state.arrays()
    found["config"] = [config.grad_checkpoint, config.grad_accum_steps]
    found["difference"] = max(float(np.abs(after[n] - expected[1][n]).max()) for n in after)
    found["logs"] = [first, expected[0], logs]
    return found


def host_syncs(engine: engines.TrainingEngine) -> dict[int, list[int]]:
    """Fetches of the loop, and all looks at a value of the device, in eight steps."""
    from efficientdet.run.checkpoints import CheckpointManager
    from efficientdet.training.trainer import Plan, Trainer

    found, looks, fetches, fetch = {}, [], [], backend.fetch
    if IS_JAX:
        from jaxlib._jax import ArrayImpl as Tensor

        value = Tensor._value
        Tensor._value = property(lambda self: (looks.append(1), value.fget(self))[1])
    else:
        from tensorflow.python.framework.ops import _EagerTensorBase as Tensor

        numpy = Tensor._numpy
        Tensor._numpy = lambda self: (looks.append(1), numpy(self))[1]
    backend.fetch = lambda tensors: (fetches.append(1), fetch(tensors))[1]
    for steps in (0, 1, 4):
        engine.config = replace(engine.config, fetch_steps=steps)
        with tempfile.TemporaryDirectory() as folder:
            trainer = Trainer(
                engine, Plan(2, 8, 1), CheckpointManager(folder),
                batches=lambda epoch, skip: iter([BATCH] * 8), evaluate=None,
            )  # fmt: skip
            trainer._compilations = engine.compilations
            trainer._save = lambda: None
            looks.clear(), fetches.clear()
            trainer.fit()
        found[steps] = [len(fetches), len(looks)]
    return found


def main() -> None:
    efficientnet.STAGES = tuple(
        efficientnet.Stage(*stage) for stage in ((3, 1, 1, 1, 4), (3, 1, 2, 1, 4), (3, 1, 2, 2, 8))
    )
    efficientnet.STEM_FILTERS = 8
    backend.uses_xla = lambda: True
    found = {"rows": [row(*each) for each in ROWS[IS_JAX]]}
    engine = make(is_training_bn=False)
    known_weights(engine)
    if IS_JAX:
        found["recovery"] = recovery(engine)
    else:
        found["logs"] = [update(engine, step) for step in range(3)]
    found["detections"] = detections(engine)
    found["tensorflow"] = "tensorflow" in sys.modules
    sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, NoTensorFlow)]
    found["host_syncs"] = host_syncs(engine)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
