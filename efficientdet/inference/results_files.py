"""`results.csv` and `results.png` of a run: its evaluations in a table, and its curves."""

from pathlib import Path

from efficientdet.atomic import atomic_open
from efficientdet.run.callbacks import Callback, Logs, Pictures
from efficientdet.run.history import History
from efficientdet.visualize import curves, learning_curves

TABLE, CURVES = "results.csv", "results.png"


def write_results(model_dir: Path) -> None:
    """Makes both anew from what the run has logged, so that they are right after going back, too.

    Nothing is written where the table says the same already, nor for a run without evaluations.
    """
    history, table = History.read(model_dir), model_dir / TABLE
    if not history.evaluations and not table.exists():
        return
    text = history.csv()
    if table.exists() and table.read_text(encoding="utf-8", errors="replace") == text:
        return
    # The table comes last: after a crash in between it differs, and both are made again.
    figure = learning_curves.figure(history.training, history.evaluations)
    curves.save(figure, model_dir / CURVES)
    with atomic_open(table) as file:
        file.write(text)


class ResultsFiles(Callback):
    """Writes them after each evaluation, and where a run goes on before one that it had.

    It comes after what logs the evaluation.
    """

    def __init__(self, model_dir: Path):
        self._folder, self._step = model_dir, 0

    def on_epoch(
        self, epoch: int, step_in_epoch: int, steps: int, num_epochs: int, compiles: bool
    ) -> None:
        """Puts right what a resumed run has left behind."""
        write_results(self._folder)

    def on_step(self, step: int, epoch: float, logs: Logs) -> None:
        """Puts right what a run has left behind that went back to a checkpoint."""
        if step <= self._step:
            write_results(self._folder)
        self._step = step

    def on_evaluation(
        self, step: int, epoch: float | None, metrics: Logs, pictures: Pictures
    ) -> None:
        """Adds the new row, and makes the curves anew."""
        write_results(self._folder)
