"""Steps whose loss or gradient is not finite: told with their faces, left out up to a limit.

Such a step changes no parameter (`steps.train_step`), so nothing is poisoned by the time it is
noticed: when the devices have done it, a few steps after it was given out.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from absl import logging

from affect_jax.config import Config
from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.data.records import Split
from affect_jax.data.sampling import TrainingRows
from affect_jax.run.workdir import Workdir

FILE = "nonfinite.json"


def finite(metrics: Any) -> bool:
    """Whether the loss and the gradient of an update, or of several, are finite; waits for them."""
    return bool(
        np.isfinite(parallel.to_host([metrics.loss.total, metrics.gradient_norm.total])).all()
    )


class NonFiniteGuard:
    """Leaves out the metrics of steps that are not finite.

    **Arguments:**

    - `folder`: where process 0 writes `nonfinite.json`.
    - `allowed`: steps that may be left out before the run stops.
    - `faces`: number of a step, from 1 -> ids of the faces of its batch.
    """

    def __init__(self, folder: pathlib.Path, allowed: int, faces: Callable[[int], Sequence[str]]):
        self._path = folder / FILE
        self._allowed, self._faces = allowed, faces
        self._found: list[dict[str, Any]] = []

    @classmethod
    def of(
        cls, config: Config, workdir: Workdir, training: Split, rows: TrainingRows
    ) -> NonFiniteGuard:
        """The guard of a run."""
        ids = training.columns("id")["id"]
        return cls(workdir.path, config.skip_nonfinite, lambda step: ids[rows[step - 1]].tolist())

    def filter_finite(self, first: int, metrics: Sequence[Any]) -> list[Any]:
        """The metrics of the steps that were finite.

        **Arguments:**

        - `first`: number of the step of the first of them.
        - `metrics`: clu collections on the host, one a step, in order.

        **Raises:** `UserError` where a run leaves out more steps than it may.
        """
        good, before = [], len(self._found)
        for step, collection in enumerate(metrics, first):
            norms = _averages(collection)
            if np.isfinite([norms["loss"], norms["gradient_norm"]]).all():
                good.append(collection)
            else:
                self._found.append(self._describe(step, norms, good))
        if len(self._found) > before:
            self._tell(before)
        return good

    def _describe(self, step: int, averages: dict[str, float], before: list[Any]) -> dict[str, Any]:
        norms = [_averages(collection)["gradient_norm"] for collection in before]
        return {
            "step": step,
            "faces": list(map(str, self._faces(step))),
            **{name: str(value) for name, value in averages.items()},
            "gradient_norms_before": norms,
        }

    def _tell(self, before: int) -> None:
        written = ""
        if parallel.is_main():
            try:
                self._path.write_text(json.dumps(self._found, indent=1))
                written = f"; its faces and gradient norms are in {self._path}"
            except OSError as error:
                logging.warning("%s cannot be written: %s", self._path, error)
        count = len(self._found)
        if count > self._allowed:
            step = self._found[self._allowed]["step"]
            raise UserError(
                f"step {step}: the loss or its gradient is not finite{written}; the last checkpoint"
                " is from before; start anew with a lower learning_rate or optimizer.clip_norm, or"
                f" go on with --config.skip_nonfinite={max(10, 2 * count)}, which leaves out up to"
                " so many steps"
            )
        for found in self._found[before:]:
            logging.warning(
                "step %d was left out: its loss or gradient is not finite (%d of %d that may be)%s",
                *(found["step"], count, self._allowed, written),
            )


def _averages(collection: Any) -> dict[str, float]:
    """The step's means, without a call of JAX for each: NaN where there is none."""
    return {
        name: float(metric.total) / float(metric.count) if metric.count else float("nan")
        for name, metric in vars(collection).items()
        if name == "gradient_norm" or name.startswith("loss")
    }
