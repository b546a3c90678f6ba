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
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import Experiment
from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.state import TrainState, eval_variables

NUM_FACES = 12  # maximum number of faces drawn at a step
LOWEST = -sys.float_info.max  # a score before the first evaluation; JSON has no infinity


@dataclasses.dataclass
class PeriodicActions:
    """The parts of a run other than its state, and its work between steps."""

    config: Config
    workdir: Workdir
    experiment: Experiment
    checkpoints: Checkpoints
    evaluator: Evaluator
    log: MetricsLog
    training: Split
    rows: sampling.TrainingRows
    verification: Future[None]
    scores: dict[int, protocol.Scores] = dataclasses.field(default_factory=dict)  # by step
    best: tuple[float, int] = (LOWEST, 0)  # `checkpoint.best` (negated if less is better), step

    def has_stopped_improving(self, step: int) -> bool:
        """Whether a step ends the run early by `config.stop_after`; the same in every process."""
        patience = self.log.intervals.stop_after
        if not patience or not self.log.intervals.is_due("evaluate", step):
            return False
        is_late = processes.is_main() and step - self.best[1] >= patience
        return bool(processes.process_max(int(is_late)))

    def draw_training_faces(self, step: int) -> None:
        """Writes the first faces of a step's batch to TensorBoard, without augmentation."""
        if processes.is_main():
            rows, size = self.rows[step - 1][:NUM_FACES], self.config.data.image_size
            faces = decoding.decode_faces(self.training.records, rows, size)
            self.log.writer.write_images(step, {"training_faces": faces})

    def evaluate(self, step: int, state: TrainState) -> None:
        """Scores the evaluation split and logs the scores. Every process scores the whole split."""
        from affect_jax.train import tensorboard_images  # the import takes a second

        name, writer = self.config.checkpoint.best, self.log.writer
        with self.log.time_other_work("evaluate", step):
            table = self.evaluator(eval_variables(state))
            scores = protocol.score(table, draws=self.config.evaluation.draws)
            params, targets = state.params["loss"], self.evaluator.targets
            losses = evaluate_loss(self.experiment.loss, params, table, targets)
            writer.write_scalars(step, scores.values | losses)
            score = scores.values.get(name.removeprefix("-"), math.nan)
            if processes.is_main():
                if name:
                    samples = selection_bias.sample_score(table, name)
                    writer.write_evaluation(step, score, samples)
                if table.probabilities is not None:
                    image = tensorboard_images.confusion_image(table)
                    writer.write_images(step, {"confusion": image})
        self.scores = {step: scores}  # the newest only
        value = -score if name.startswith("-") else score
        if value > self.best[0]:
            self.best = (value, step)
        if warning := protocol.describe_constant_prediction(table):
            self.log.print(f"step {step}: warning: {warning}")
        headlines = list(protocol.select_headlines(scores).items())[:2]
        values = [("evaluation.loss", losses["evaluation.loss"]), *headlines]
        self.log.print(f"step {step}: " + ", ".join(f"{k} {v:.4f}" for k, v in values))

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
            edits, scores = self.training.edits, self.scores.get(step)
            info = {
                "epoch": step / self.log.intervals.steps_per_epoch,
                "best": self.best,
                "data": self.training.fingerprint,
                "label_edits": dict(edits.summary) if edits else {},
                "config": to_dict(with_absolute_paths(self.config)),
                "machine": parallel.describe_machine(),
                "numerics": parallel.describe_numerics(),
            }
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
            name, best = self.config.checkpoint.best, self.best[1]
            if step < self.log.intervals.total:
                self.log.print(f"step {step}: stopped early: no better {name} since step {best}")
                self.log.writer.write_scalars(step, {"early_stop.best_step": best})
            print(f"{self.evaluator.split.name}, step {step:,} (the last):\n")
            print(protocol.format_summary(self.scores[step]))
            if (best := self.checkpoints.best_step()) is not None:
                print(f"\nbest {name}: step {best:,}; --mode=evaluate scores it")
        if step not in self.checkpoints.all_steps():
            self.save(step, state)
        self.checkpoints.ensure_saved(step)


def evaluate_loss(loss: Loss, params: Any, table: Predictions, targets: Batch) -> dict[str, float]:
    """Computes the objective and its terms from predictions, with valence and arousal clipped.

    **Arguments:** `params`: learned weights of the terms; `targets`: of the table's faces.

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
