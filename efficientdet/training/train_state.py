"""Everything that one training step reads and changes, under the names of AutoML's checkpoints."""

import math
from collections.abc import Mapping, Sequence
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

    Slots and shadows are one flat vector each: the update of some 500 variables is then a dozen
    operations, not ten thousand, which are traced, optimised and scheduled in every run.
    """

    def __init__(self, model: keras.Model, optimizer: Optimizer, config: Config):
        name_of = {id(variable): name for name, variable in automl_names(model).items()}
        self.trainables = list(model.trainable_variables)
        self.names = [name_of[id(variable)] for variable in self.trainables]
        # Seeds of stochastic layers are state too, but have no name in AutoML and no average.
        self.statistics = list(model.non_trainable_variables)
        self._statistic_names = [name_of.get(id(variable)) for variable in self.statistics]
        self.has_ema = config.moving_average_decay > 0
        self._slot_names = optimizer.slot_names
        slots = optimizer.init([self.flat(self.trainables)])
        self._groups: dict[str, list[keras.Variable]] = {
            "trainables": self.trainables,
            "statistics": self.statistics,
            **{name: _variables(slot) for name, slot in zip(self._slot_names, slots, strict=True)},
            "shadows": _variables(self.averaged(self.read_weights())) if self.has_ema else [],
            **{name: _variables([np.float32(x)]) for name, x in _SCALARS.items()},
        }

    def read_weights(self) -> dict[str, list]:
        """The values of the model's own variables."""
        return {"trainables": _values(self.trainables), "statistics": _values(self.statistics)}

    def read(self) -> dict[str, list]:
        """The values of all variables, by group."""
        return {group: _values(variables) for group, variables in self._groups.items()}

    def write(self, values: Mapping[str, list]) -> None:
        """Stores what the pure step returned."""
        for group, variables in self._groups.items():
            for variable, value in zip(variables, values[group], strict=True):
                variable.assign(value)

    @staticmethod
    def flat(tensors: Sequence[Any]) -> Any:
        """One float32 vector of all elements."""
        return ops.concatenate([ops.reshape(tensor, (-1,)) for tensor in tensors])

    def unflat(self, vector: Any) -> list:
        """The tensors of the trainables' shapes that `flat` made `vector` of."""
        return _unflat(vector, self.trainables)

    def averaged(self, values: Mapping[str, list]) -> list:
        """[flat trainables, flat BN statistics]: what the EMA follows."""
        named = zip(values["statistics"], self._statistic_names, strict=True)
        return [
            self.flat(values["trainables"]),
            self.flat([value for value, name in named if name]),
        ]

    def evaluation_values(self) -> tuple[list, list]:
        """(trainables, statistics) to evaluate with: the EMA shadows where there are any."""
        values = self.read_weights()
        if not self.has_ema:
            return values["trainables"], values["statistics"]
        trainables, statistics = _values(self._groups["shadows"])
        averaged = iter(_unflat(statistics, self._named_statistics))
        return self.unflat(trainables), [
            next(averaged) if name else value
            for name, value in zip(self._statistic_names, values["statistics"], strict=True)
        ]

    def reset_shadows(self) -> None:
        """Starts the averages at the present values (after a checkpoint was restored)."""
        if self.has_ema:
            values = self.averaged(self.read_weights())
            for shadow, value in zip(self._groups["shadows"], values, strict=True):
                shadow.assign(value)

    def arrays(self) -> dict[str, np.ndarray]:
        """Name -> array of the whole state."""
        arrays = {name: ops.convert_to_numpy(v.value) for name, v in self._stored().items()}
        for variable, names, shaped in self._flat_groups():
            parts = map(ops.convert_to_numpy, _unflat(variable.value, shaped))
            arrays |= dict(zip(names, parts, strict=True))
        return arrays

    def load(self, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Sets every variable that `arrays` names; returns the names that were absent.

        What is absent stays as it is, but for an average: that begins at its variable's new value.
        """
        names = {*self._stored(), *(name for _, group, _ in self._flat_groups() for name in group)}
        absent = sorted(names - arrays.keys())
        # Without need the present values are not read: a step that failed may have deleted them.
        merged = self.arrays() if absent else {}
        merged |= {name: arrays[name] for name in names & arrays.keys()}
        for name in absent:
            if name.endswith(f"/{EMA}"):
                merged[name] = merged[name.removesuffix(f"/{EMA}")]
        for name, variable in self._stored().items():
            variable.assign(merged[name].astype(variable.dtype))
        for variable, names, _ in self._flat_groups():
            variable.assign(np.concatenate([np.ravel(merged[name]) for name in names]))
        return absent

    @property
    def _named_statistics(self) -> list[keras.Variable]:
        named = zip(self.statistics, self._statistic_names, strict=True)
        return [variable for variable, name in named if name]

    def _stored(self) -> dict[str, keras.Variable]:
        """The variables that are stored as they are."""
        statistic_names = [n or f"state/{i}" for i, n in enumerate(self._statistic_names)]
        return (
            dict(zip(self.names, self.trainables, strict=True))
            | dict(zip(statistic_names, self.statistics, strict=True))
            | {f"state/{name}": self._groups[name][0] for name in _SCALARS}
        )

    def _flat_groups(self) -> list[tuple[keras.Variable, list[str], list[keras.Variable]]]:
        """(flat variable, names of its parts, variables of their shapes)."""
        groups = [
            (self._groups[slot][0], [f"{name}/{slot}" for name in self.names], self.trainables)
            for slot in self._slot_names
        ]
        if self.has_ema:
            trainables, statistics = self._groups["shadows"]
            names = [f"{name}/{EMA}" for name in self._statistic_names if name]
            groups.append((trainables, [f"{name}/{EMA}" for name in self.names], self.trainables))
            groups.append((statistics, names, self._named_statistics))
        return groups


def _values(variables: Sequence[keras.Variable]) -> list:
    return [ops.convert_to_tensor(variable.value) for variable in variables]


def _variables(values: Sequence[Any]) -> list[keras.Variable]:
    return [
        keras.Variable(ops.convert_to_numpy(value), dtype="float32", trainable=False)
        for value in values
    ]


def _unflat(vector: Any, shaped: Sequence[keras.Variable]) -> list:
    ends = np.cumsum([math.prod(variable.shape) for variable in shaped])
    parts = ops.split(vector, ends[:-1].tolist())
    return [ops.reshape(part, v.shape) for part, v in zip(parts, shaped, strict=True)]
