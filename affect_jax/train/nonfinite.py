"""Steps whose loss or gradient is not finite: they are logged with their faces and skipped.

A skipped step changes no parameter (`step.train_step`), so the state stays valid although the host
detects the step only a few dispatches later.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import logging

from affect_jax.core import processes
from affect_jax.core.errors import UserError


def is_finite(metrics: Any) -> bool:
    """Whether loss and gradient of one or more updates are finite. Waits for the devices."""
    values = jax.device_get([metrics.loss.total, metrics.gradient_norm.total])
    return bool(np.isfinite(values).all())


class NonFiniteGuard:
    """Drops the metrics of steps that are not finite, and limits the number of such steps.

    **Arguments:**

    - `folder`: process 0 writes `nonfinite.json` here.
    - `max_skipped`: number of steps that may be skipped before the run stops.
    - `face_ids`: function from a step number, starting at 1, to the ids of the faces of its batch.
    """

    def __init__(
        self, folder: pathlib.Path, max_skipped: int, face_ids: Callable[[int], Sequence[str]]
    ):
        self._path = folder / "nonfinite.json"
        self._max_skipped, self._face_ids = max_skipped, face_ids
        self._skipped: list[dict[str, Any]] = []

    def filter_finite(self, first: int, metrics: Sequence[Any]) -> list[Any]:
        """Returns the metrics of the finite steps.

        **Arguments:** `metrics`: clu collections on the host, of steps `first`, `first` + 1, ...

        **Raises:** `UserError` if more steps are skipped than `config.skip_nonfinite` allows.
        """
        finite = []
        for step, collection in enumerate(metrics, first):
            if is_finite(collection):
                finite.append(collection)
                continue
            means = {name: str(float(value)) for name, value in collection.compute().items()}
            means.pop("accuracy", None)
            norms = [float(before.gradient_norm.compute()) for before in finite]
            entry = {"step": step, "faces": list(map(str, self._face_ids(step))), **means}
            self._skipped.append({**entry, "gradient_norms_before": norms})
            self._report(step)
        return finite

    def _report(self, step: int) -> None:
        if processes.is_main():
            try:
                self._path.write_text(json.dumps(self._skipped, indent=1))
            except OSError as error:
                logging.warning("%s cannot be written: %s", self._path, error)
        count, details = len(self._skipped), f"its faces and gradient norms are in {self._path}"
        if count > self._max_skipped:
            raise UserError(
                f"step {step}: the loss or its gradient is not finite; {details}; the last "
                "checkpoint is from before this step. Start a new run with a lower learning_rate "
                "or optimizer.clip_norm, or resume with "
                f"--config.skip_nonfinite={max(10, 2 * count)} to skip up to that many steps"
            )
        logging.warning(
            f"step {step} was skipped: its loss or gradient is not finite ({count} of at most "
            f"{self._max_skipped}); {details}"
        )
