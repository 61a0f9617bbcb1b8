"""What one job is to do, and how its parts tell what they found."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

Turn = Callable[[], None]  # waits until the card is this job's alone


@dataclass(frozen=True)
class Settings:
    """Of one job, which is a process of its own.

    Attributes:
        part: as `--only` names it, which is its module in this folder.
        precision: float32 or bfloat16, which cards before Ampere do in float16, a CPU in float32.
        remat: blocks are computed again in the backward pass.
        seconds: how long each figure is timed for.
        frames: pattern of what `--prepare` wrote; None: made-up pixels.
        limit_gb: memory of the device at most; the parts that run out of it need a limit.
        tiny: for the rehearsal, the first three stages of the backbone.
    """

    part: str
    model: str
    hparams: str
    batch_sizes: Sequence[int]
    precision: str = "bfloat16"
    remat: bool = False
    seconds: float = 3.0
    frames: str | None = None
    limit_gb: float | None = None
    tiny: bool = False

    @property
    def name(self) -> str:
        """Names the job's file."""
        words = [self.part, self.model, self.precision, *["remat"] * self.remat]
        return "_".join(words)

    @property
    def what(self) -> str:
        """Begins the job's rows: `d0 1280x384, remat`."""
        height, width = self.config().image_hw
        network = f"{self.model.removeprefix('efficientdet-')}{' (three blocks)' * self.tiny}"
        return f"{network} {width}x{height}{', remat' * self.remat}"

    def config(self, **more: object):
        """The configuration; imports what needs numpy and YAML alone."""
        from efficientdet.config import Config, parse_hparams

        values = {
            "mixed_precision": self.precision != "float32",
            "grad_checkpoint": self.remat,
        }
        return Config.for_model(self.model).override(parse_hparams(self.hparams) | values | more)

    def dumped(self) -> str:
        """For a command line."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Said:
    """A row as a job tells it; where and in what it was computed stands beside it.

    Attributes:
        backend, dtype: where they are not those of Keras in this process.
    """

    what: str
    figures: dict[str, float | str]
    error: str = ""
    backend: str = ""
    dtype: str = ""


Rows = Iterator[Said]
