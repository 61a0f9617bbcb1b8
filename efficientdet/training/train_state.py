"""Everything that one training step reads and changes, under the names of AutoML's checkpoints."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from efficientdet.config import Config
from efficientdet.model.detector import automl_names
from efficientdet.training.optimizers import Optimizer

EMA = "ExponentialMovingAverage"
# Moving count of positives; float16 loss scale and finite steps since it last changed; updates done
# by this optimizer (Adam's bias correction counts them).
_SCALARS = {"positives": 0.0, "loss_scale": 2.0**15, "good_steps": 0.0, "updates": 0.0}


class TrainState:
    """Weights, BN statistics, optimizer slots, EMA shadows and a few scalars, as variables.

    `read()` and `write()` exchange plain tensors with the pure step; `arrays()` and `load()`
    exchange numpy arrays with a checkpoint: variable X is stored as `X`, its shadow as
    `X/ExponentialMovingAverage`, its slots as `X/Momentum` or `X/Adam`, `X/Adam_1`.
    """

    def __init__(self, model: keras.Model, optimizer: Optimizer, config: Config):
        name_of = {id(variable): name for name, variable in automl_names(model).items()}
        self.trainables = list(model.trainable_variables)
        self.names = [name_of[id(variable)] for variable in self.trainables]
        # Seeds of stochastic layers are state too, but have no name in AutoML and no average.
        self.statistics = list(model.non_trainable_variables)
        self._statistic_names = [name_of.get(id(variable)) for variable in self.statistics]
        self.has_ema = config.moving_average_decay > 0
        self._optimizer = optimizer
        slots = optimizer.init([ops.convert_to_tensor(v.value) for v in self.trainables])
        self._groups: dict[str, list[keras.Variable]] = {
            "trainables": self.trainables,
            "statistics": self.statistics,
            **{
                name: _variables(slot)
                for name, slot in zip(optimizer.slot_names, slots, strict=True)
            },
            "shadows": _variables([v.value for v in self._averaged]) if self.has_ema else [],
            **{name: _variables([np.float32(x)]) for name, x in _SCALARS.items()},
        }

    def averaged_values(self, values: Mapping[str, list]) -> list:
        """Of a state as `read()` gives it: what the EMA follows, in the order of the shadows."""
        named = zip(values["statistics"], self._statistic_names, strict=True)
        return values["trainables"] + [value for value, name in named if name]

    @property
    def _averaged(self) -> list[keras.Variable]:
        return self.averaged_values({"trainables": self.trainables, "statistics": self.statistics})

    def read(self) -> dict[str, list]:
        """The values of all variables, by group."""
        return {
            group: [ops.convert_to_tensor(v.value) for v in variables]
            for group, variables in self._groups.items()
        }

    def write(self, values: Mapping[str, list]) -> None:
        """Stores what the pure step returned."""
        for group, variables in self._groups.items():
            for variable, value in zip(variables, values[group], strict=True):
                variable.assign(value)

    def evaluation_values(self) -> tuple[list, list]:
        """(trainables, statistics) to evaluate with: the EMA shadows where there are any."""
        statistics = [v.value for v in self.statistics]
        if not self.has_ema:
            return [v.value for v in self.trainables], statistics
        shadows = [v.value for v in self._groups["shadows"]]
        averaged = iter(shadows[len(self.trainables) :])
        merged = [
            next(averaged) if name else value
            for name, value in zip(self._statistic_names, statistics, strict=True)
        ]
        return shadows[: len(self.trainables)], merged

    def reset_shadows(self) -> None:
        """Starts the averages at the present values (after a checkpoint was restored)."""
        for shadow, variable in zip(self._groups["shadows"], self._averaged, strict=False):
            shadow.assign(variable.value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of the whole state."""
        return {name: ops.convert_to_numpy(v.value) for name, v in self._stored().items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Sets every variable that `arrays` names; returns the names that were absent."""
        stored = self._stored()
        for name in stored.keys() & arrays.keys():
            stored[name].assign(arrays[name].astype(stored[name].dtype))
        return sorted(stored.keys() - arrays.keys())

    def _stored(self) -> dict[str, keras.Variable]:
        statistic_names = [n or f"state/{i}" for i, n in enumerate(self._statistic_names)]
        averaged = self.names + [name for name in self._statistic_names if name]
        slots = {
            f"{name}/{slot}": variable
            for slot in self._optimizer.slot_names
            for name, variable in zip(self.names, self._groups[slot], strict=True)
        }
        return (
            dict(zip(self.names, self.trainables, strict=True))
            | dict(zip(statistic_names, self.statistics, strict=True))
            | slots
            | {f"{n}/{EMA}": v for n, v in zip(averaged, self._groups["shadows"], strict=False)}
            | {f"state/{name}": self._groups[name][0] for name in _SCALARS}
        )


def _variables(values: list[Any]) -> list[keras.Variable]:
    return [
        keras.Variable(ops.convert_to_numpy(value), dtype="float32", trainable=False)
        for value in values
    ]
