"""Work of a run between its steps: evaluate, save, draw images, finish."""

from __future__ import annotations

import dataclasses
import math
import sys
from concurrent.futures import Future
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from affect_jax.config import Config, to_dict, with_absolute_paths
from affect_jax.core import parallel, processes
from affect_jax.core.batch import Batch
from affect_jax.data import decoding, sampling
from affect_jax.data.record_reader import Split
from affect_jax.evaluate import selection_bias
from affect_jax.evaluate.evaluator import Evaluator
from affect_jax.losses import Loss
from affect_jax.metrics import protocol
from affect_jax.metrics.predictions import Predictions
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.manifest import read_manifest
from affect_jax.run.workdir import Workdir
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.state import TrainState, eval_variables
from affect_jax.train.step_intervals import Intervals
from affect_jax.train.tensorboard_images import confusion_image

NUM_FACES = 12  # maximum number of faces drawn at a step
LOWEST = -sys.float_info.max  # a score before the first evaluation; JSON has no infinity


@dataclasses.dataclass
class PeriodicActions:
    """The parts of a run other than its state, and its work between steps."""

    config: Config
    workdir: Workdir
    intervals: Intervals
    checkpoints: Checkpoints
    evaluator: Evaluator
    log: MetricsLog
    training: Split
    rows: sampling.TrainingRows
    verification: Future[None]
    loss: Loss
    scores: dict[int, protocol.Scores] = dataclasses.field(default_factory=dict)  # by step
    best: tuple[float, int] = (LOWEST, 0)  # `checkpoint.best` (negated if less is better), step

    def restore_best(self, step: int) -> None:
        """Restores `best` from the checkpoint of a step; only the main process needs it."""
        if step and processes.is_main():
            info = read_manifest(self.checkpoints.directory / str(step))
            self.best = tuple(info.get("best", (LOWEST, step)))

    def has_stopped_improving(self, step: int) -> bool:
        """Whether a step ends the run early by `config.stop_after`; the same in every process."""
        patience = self.intervals.stop_after
        if not patience or not self.intervals.is_due("evaluate", step):
            return False
        is_late = processes.is_main() and step - self.best[1] >= patience
        return bool(processes.process_max(int(is_late)))

    def draw_training_faces(self, step: int) -> None:
        """Writes the first faces of a step's batch to TensorBoard, without augmentation."""
        rows, size = self.rows[step - 1][:NUM_FACES], self.config.data.image_size

        def draw() -> dict[str, np.ndarray]:
            return {"training_faces": decoding.decode_faces(self.training.records, rows, size)}

        self.log.writer.draw_images(step, draw)

    def evaluate(self, step: int, state: TrainState) -> protocol.Scores:
        """Scores the evaluation split and logs the scores. Every process scores the whole split."""
        with self.log.time_other_work("evaluate", step):
            table = self.evaluator(eval_variables(state))
            scores = protocol.score(table, draws=self.config.evaluation.draws)
            losses = evaluate_loss(self.loss, state.params["loss"], table, self.evaluator.targets)
            self.log.writer.write_scalars(step, scores.values | losses)
            if (name := self.config.checkpoint.best) and processes.is_main():
                samples = selection_bias.sample_score(table, name)
                score = scores.values[name.removeprefix("-")]
                self.log.writer.write_evaluation(step, score, samples)
            if table.probabilities is not None:
                self.log.writer.draw_images(step, lambda: {"confusion": confusion_image(table)})
        self.scores = {step: scores}  # the newest only
        value = scores.values.get(name.removeprefix("-"), math.nan) * (-1 if name[:1] == "-" else 1)
        if value > self.best[0]:
            self.best = (value, step)
        if warning := protocol.describe_constant_prediction(table):
            self.log.print(f"step {step}: warning: {warning}")
        headlines = list(protocol.select_headlines(scores).items())[:2]
        values = [("evaluation.loss", losses["evaluation.loss"]), *headlines]
        self.log.print(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in values))
        return scores

    def save(self, step: int, state: TrainState) -> None:
        """Starts to write a checkpoint in process 0; training continues meanwhile.

        **Raises:** `UserError` if the data files have changed since preparation, or if the workdir
        was deleted.
        """
        self.verification.result()
        if not processes.is_main():
            return
        self.workdir.check_not_deleted()
        with self.log.time_other_work("save", step):
            config = to_dict(with_absolute_paths(self.config))
            info = {
                "epoch": step / self.intervals.steps_per_epoch,
                "best": self.best,
                "data": self.training.fingerprint,
                "label_edits": dict(self.training.edits.summary) if self.training.edits else {},
                "config": config,
                "machine": parallel.describe_machine(),
                "numerics": parallel.describe_numerics(),
            }
            scores = self.scores.get(step)
            # Copied: on a CPU the host's array may share the device's memory, which is donated.
            host_state = jax.tree.map(np.array, jax.device_get(state))
            self.checkpoints.save(step, host_state, info, scores.values if scores else None)

    def finish(self, state: TrainState, *, print_scores: bool) -> None:
        """Prints the scores of a completed run and ensures that the final checkpoint is on disk.

        **Raises:** `UserError` if the checkpoint cannot be written.
        """
        step = int(state.step)
        if print_scores and step not in self.scores:
            self.evaluate(step, state)
        self.checkpoints.wait()
        if print_scores:
            if step < self.intervals.total:
                name, best_step = self.config.checkpoint.best, self.best[1]
                self.log.print(f"step {step}: stopped early: best {name} was at step {best_step}")
                self.log.writer.write_scalars(step, {"early_stop.best_step": best_step})
            print(f"{self.evaluator.split.name}, step {step:,} (the last):\n")
            print(protocol.format_summary(self.scores[step]))
            best = self.checkpoints.best_step()
            if best is not None:
                name = self.config.checkpoint.best
                print(f"\nbest {name}: step {best:,}; --mode=evaluate scores it")
        if step not in self.checkpoints.all_steps():
            self.checkpoints.close()  # ends Orbax's threads and logs their errors
            self.save(step, state)
        self.checkpoints.ensure_saved(step)


def evaluate_loss(loss: Loss, params: Any, table: Predictions, targets: Batch) -> dict[str, float]:
    """Computes the objective and its terms from predictions, with valence and arousal clipped.

    **Arguments:**

    - `params`: the learned weights of the terms, see `Loss.total`.
    - `targets`: targets and masks of the table's faces.

    **Returns:** `evaluation.loss` and `evaluation.loss_NAME` for each term.
    """

    def log(probabilities: np.ndarray) -> np.ndarray:
        return np.log(np.maximum(probabilities, 1e-12))  # the softmax of these logits is the same

    outputs = {}
    if table.probabilities is not None:
        outputs["expression"] = log(table.probabilities)
    if table.valence_arousal_predicted is not None:
        outputs["valence_arousal"] = table.valence_arousal_predicted
    if (units := table.action_units_predicted) is not None:
        outputs["action_units"] = log(units) - log(1 - units)
    outputs = {head: jnp.asarray(values, jnp.float32) for head, values in outputs.items()}
    values = loss.values(loss.sums(outputs, jax.tree.map(jnp.asarray, targets)))
    total = loss.total(values, jax.device_get(params))
    named = {"loss": total, **{f"loss_{name}": value for name, value in values.items()}}
    return {f"evaluation.{name}": float(value) for name, value in named.items()}
