"""metrics.jsonl: one JSON object a line, the one record of what a run has scored."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from efficientdet.atomic import atomic_open


class MetricsLog:
    """Lines `{"kind": "train" | "eval", "step": ..., "epoch": ..., <name>: <number>, ...}`."""

    def __init__(self, path: Path):
        self.path = Path(path)

    def append(self, kind: str, step: int, epoch: float | None, values: Mapping[str, Any]) -> None:
        """Adds one line; what is not a finite number becomes null, as JSON has no NaN."""
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in values.items()
        }
        epoch = None if epoch is None else round(epoch, 4)
        record = {"kind": kind, "step": step, "epoch": epoch, **finite}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read(self, kind: str | None = None) -> list[dict[str, Any]]:
        """All lines, or those of one kind; a last line cut short by a crash is left out."""
        if not self.path.exists():
            return []
        records = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return [record for record in records if kind in (None, record["kind"])]

    def truncate(self, step: float) -> None:
        """Drops what a crashed run logged after `step`, the checkpoint that is resumed."""
        if not self.path.exists():
            return
        kept = [record for record in self.read() if record["step"] <= step]
        text = "".join(json.dumps(record) + "\n" for record in kept)
        if text != self.path.read_text(encoding="utf-8", errors="replace"):
            with atomic_open(self.path) as file:
                file.write(text)
