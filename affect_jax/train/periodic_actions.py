"""Work of a run between its steps: evaluate, save, draw images, stop, finish."""

from __future__ import annotations

import dataclasses
import functools
import signal

import jax
import numpy as np

from affect_jax.config import Config, to_dict, with_absolute_paths
from affect_jax.core import parallel
from affect_jax.data import decoding, record_reader, sampling
from affect_jax.data.record_reader import Split
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.preemption import StopRequest
from affect_jax.train.state import TrainState, eval_variables
from affect_jax.train.step_intervals import Intervals
from affect_jax.train.tensorboard_images import confusion_image, face_panel

PANEL_FACES = 12  # maximum number of faces drawn at a step


@dataclasses.dataclass
class PeriodicActions:
    """The parts of a run other than its state, and its work between steps.

    **Arguments:**

    - `latest_scores`: step and scores of the newest evaluation.
    - `num_dispatches`: number of dispatches since this process started.
    """

    config: Config
    workdir: Workdir
    intervals: Intervals
    checkpoints: Checkpoints
    evaluator: Evaluator
    stop: StopRequest
    log: MetricsLog
    training: Split
    rows: sampling.TrainingRows
    verification: record_reader.BackgroundVerification
    latest_scores: tuple[int, protocol.Scores] | None = None
    num_dispatches: int = 0

    def draw_training_faces(self, step: int) -> None:
        """Writes the first faces of a step's batch to TensorBoard, without augmentation."""
        rows, size = self.rows[step - 1][:PANEL_FACES], self.config.data.image_size

        def draw() -> dict[str, np.ndarray]:
            return {"training_faces": decoding.decode_faces(self.training.records, rows, size)}

        self.log.writer.draw_images(step, draw)

    def should_stop(self) -> bool:
        """Whether a signal ends the run after this dispatch; the same result in every process."""
        self.num_dispatches += 1
        if not parallel.is_multiprocess():
            return self.stop.received is not None
        return parallel.reached_agreed_stop(self.num_dispatches)

    def exit_code(self, state: TrainState) -> int:
        """0, or 128 + the number of the signal that ended the run; the same in every process."""
        # A signal may arrive too late for `should_stop`, and in one process only.
        signal_number = parallel.process_max(self.stop.received or 0)
        # The cluster's preemption notice stops a run without a signal.
        if not signal_number and int(state.step) < self.intervals.total:
            signal_number = int(signal.SIGTERM)
        return 128 + signal_number if signal_number else 0

    def finish(self, state: TrainState) -> int:
        """Prints the scores, ensures that the final checkpoint exists and returns the exit code."""
        code = self.exit_code(state)
        if parallel.is_main():
            if not code:
                self.print_final_scores(state)
            self.ensure_final_checkpoint(state)
        return code

    def print_final_scores(self, state: TrainState) -> None:
        """Prints the scores of the last step and the best step of a completed run."""
        last = self.intervals.total
        if self.latest_scores is None or self.latest_scores[0] != last:
            self.evaluate(last, state)
        assert self.latest_scores is not None
        self.checkpoints.wait()
        best = self.checkpoints.best_step()
        print(f"{self.evaluator.split.name}, step {last:,} (the last):\n")
        print(protocol.format_summary(self.latest_scores[1]))
        if best is not None:
            print(f"\nbest {self.config.checkpoint.best}: step {best:,}; --mode=evaluate scores it")

    def ensure_final_checkpoint(self, state: TrainState) -> None:
        """Waits until the final checkpoint is on disk and writes it again if it is missing.

        **Raises:** `UserError` if it cannot be written.
        """
        step = int(state.step)
        self.checkpoints.wait()
        if step not in self.checkpoints.all_steps():
            self.checkpoints.close()  # ends Orbax's threads and logs their errors
            scores = None
            if self.latest_scores is not None and self.latest_scores[0] == step:
                scores = self.latest_scores[1]
            self.save(step, state, scores)
        self.checkpoints.ensure_saved(step)

    def evaluate(self, step: int, state: TrainState) -> protocol.Scores:
        """Scores the evaluation split and logs the scores. Every process scores the whole split."""
        with self.log.time_other_work("evaluate", step):
            table = self.evaluator(eval_variables(state))
            scores = protocol.score(table, draws=self.config.evaluation.draws)
            self.log.writer.write_scalars(step, scores.values)
            self.log.writer.draw_images(step, functools.partial(self.draw_evaluation, table))
        self.latest_scores = step, scores
        headlines = list(protocol.select_headlines(scores).items())[:2]
        self.log.print(
            f"step {step}: " + ", ".join(f"{name} {value:.4f}" for name, value in headlines)
        )
        return scores

    def draw_evaluation(self, table: Predictions) -> dict[str, np.ndarray]:
        """Images of an evaluation: faces with labels and predictions, and the confusion matrix."""
        # Records are shuffled, so evenly spaced rows show faces of many classes.
        rows = np.linspace(0, len(table) - 1, min(PANEL_FACES, len(table))).astype(int)
        faces = self.evaluator.load_faces(rows)
        points, sides = (
            self.evaluator.targets[name][rows] for name in ("landmarks", "action_unit_sides")
        )
        images = {"faces": face_panel(faces, points, sides, table, rows)}
        if table.probabilities is not None:
            images["confusion"] = confusion_image(table)
        return images

    def save(self, step: int, state: TrainState, scores: protocol.Scores | None) -> None:
        """Starts to write a checkpoint in process 0; training continues meanwhile.

        **Raises:** `UserError` if the data files have changed since preparation, or if the workdir
        was deleted.
        """
        self.verification.check()
        if not parallel.is_main():
            return
        self.workdir.check_not_deleted()
        with self.log.time_other_work("save", step):
            info = {
                "epoch": step / self.intervals.steps_per_epoch,
                "data": self.training.fingerprint,
                "config": to_dict(with_absolute_paths(self.config)),
                "machine": parallel.describe_machine(),
            }
            # Copied: on a CPU the host's array may share the device's memory, which is donated.
            host_state = jax.tree.map(np.array, parallel.to_host(state))
            self.checkpoints.save(step, host_state, info, scores.values if scores else None)
