"""What a run does between its steps: evaluate, save, draw, stop, finish."""

from __future__ import annotations

import dataclasses
import functools
import signal

import jax
import numpy as np

from affect_jax.config import Config, to_dict, with_absolute_paths
from affect_jax.core import parallel
from affect_jax.data import decoding, records, sampling
from affect_jax.data.records import Split
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train.images import confusion_image, face_panel
from affect_jax.train.intervals import Intervals
from affect_jax.train.preemption import StopRequest
from affect_jax.train.state import TrainState, eval_variables
from affect_jax.train.train_log import TrainLog

PANEL_FACES = 12  # faces in the panel of an evaluation


@dataclasses.dataclass
class TrainingRun:
    """The parts of a run beside its state, and what happens between its steps."""

    config: Config
    workdir: Workdir
    intervals: Intervals
    checkpoints: Checkpoints
    evaluator: Evaluator
    stop: StopRequest
    log: TrainLog
    training: Split
    rows: sampling.TrainingRows
    verification: records.Verification
    scored: tuple[int, protocol.Scores] | None = None  # the newest evaluation and its step
    updates: int = 0  # given out since this process began

    def draw_training_faces(self, step: int) -> None:
        """Writes the first faces of a step's batch, as they are stored, to TensorBoard."""
        rows, size = self.rows[step - 1][:PANEL_FACES], self.config.data.image_size

        def draw() -> dict[str, np.ndarray]:
            return {"training_faces": decoding.faces(self.training.records, rows, size)}

        self.log.writer.draw_images(step, draw)

    def should_stop(self) -> bool:
        """Whether a signal ends the run after this update: the same answer in every process."""
        self.updates += 1
        if not parallel.is_multiprocess():
            return self.stop.received is not None
        return parallel.agreed_to_stop(self.updates)

    def exit_code(self, state: TrainState) -> int:
        """0, or 128 + the number of the signal that ended the run: the same in every process."""
        number = parallel.process_max(
            self.stop.received or 0
        )  # one may have come too late to agree
        if not number and int(state.step) < self.intervals.total:  # a cluster's own notice
            number = int(signal.SIGTERM)
        return 128 + number if number else 0

    def finish(self, state: TrainState) -> int:
        """Prints the scores, makes sure that the last checkpoint exists, returns the exit code."""
        code = self.exit_code(state)
        if parallel.is_main():
            if not code:
                self.print_final_scores(state)
            self.ensure_final_checkpoint(state)
        return code

    def print_final_scores(self, state: TrainState) -> None:
        """The last word of a run that came to its end: a table of its scores."""
        last = self.intervals.total
        if self.scored is None or self.scored[0] != last:
            self.evaluate(last, state)
        assert self.scored is not None
        self.checkpoints.wait()
        best = self.checkpoints.best()
        print(f"{self.evaluator.split.name}, step {last:,} (the last):\n")
        print(protocol.summary(self.scored[1]))
        if best is not None:
            print(f"\nbest {self.config.checkpoint.best}: step {best:,}; --mode=evaluate scores it")

    def ensure_final_checkpoint(self, state: TrainState) -> None:
        """Returns when the last checkpoint is on disk, or raises `UserError`; it is tried twice."""
        step = int(state.step)
        self.checkpoints.wait()
        if step not in self.checkpoints.steps():
            self.checkpoints.close()  # what failed in Orbax's threads is over with them
            scored = self.scored[1] if self.scored and self.scored[0] == step else None
            self.save(step, state, scored)
        self.checkpoints.require(step)

    def evaluate(self, step: int, state: TrainState) -> protocol.Scores:
        """Scores of the evaluation split, written to the log; by each process for itself."""
        with self.log.other_work("evaluate", step):
            table = self.evaluator(eval_variables(state))
            found = protocol.score(table, draws=self.config.evaluation.draws)
            self.log.writer.write_scalars(step, found.values)
            self.log.writer.draw_images(step, functools.partial(self.draw_evaluation, table))
        self.scored = step, found
        shown = list(protocol.headlines(found).items())[:2]
        self.log.progress.say(
            f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in shown)
        )
        return found

    def draw_evaluation(self, table: Predictions) -> dict[str, np.ndarray]:
        """What an evaluation shows: confusions, and faces with their labels and predictions."""
        # Evenly spaced over the split, whose records are in no order: faces of many classes.
        rows = np.linspace(0, len(table) - 1, min(PANEL_FACES, len(table))).astype(int)
        faces = self.evaluator.faces(rows)
        points, sides = (
            self.evaluator.targets[name][rows] for name in ("landmarks", "action_unit_sides")
        )
        shown = {"faces": face_panel(faces, points, sides, table, rows)}
        if table.probabilities is not None:
            shown["confusion"] = confusion_image(table)
        return shown

    def save(self, step: int, state: TrainState, scored: protocol.Scores | None) -> None:
        """One checkpoint, written while training goes on, by one process.

        **Raises:** `UserError` where the data are not those that were prepared.
        """
        self.verification.check()
        if not parallel.is_main():
            return
        if self.workdir.hold_again():
            self.workdir.save_config(to_dict(with_absolute_paths(self.config)))
            self.log.writer.open()
            self.log.progress.say(
                f"{self.workdir.path} was deleted or moved during the run; a new one holds what "
                "comes from here on"
            )
        with self.log.other_work("save", step):
            info = {
                "epoch": step / self.intervals.steps_per_epoch,
                "data": self.training.fingerprint,
                "config": to_dict(with_absolute_paths(self.config)),
                "machine": parallel.machine(),
            }
            # A copy: on a CPU the host's array may be the device's memory, which is donated.
            host = jax.tree.map(np.array, parallel.to_host(state))
            self.checkpoints.save(step, host, info, scored.values if scored else None)
