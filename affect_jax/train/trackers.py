"""Loggers of experiment trackers; a run that resumes continues its run of the tracker."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from affect_jax.train.log_writers import LOGGERS


def _read_run_id(folder: pathlib.Path) -> str | None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run_id"
    return path.read_text() if path.exists() else None


@LOGGERS.register("wandb")
class WandbWriter:
    """Weights & Biases (extra `wandb`), as set by its environment variables, such as
    `WANDB_MODE=offline` and `WANDB_PROJECT`."""

    PACKAGE: ClassVar = "wandb"

    def __init__(self, folder: pathlib.Path, start: int = 0):
        import wandb  # pyright: ignore[reportMissingImports]

        self._image = wandb.Image
        project = os.environ.get("WANDB_PROJECT", "affect_jax")
        settings = wandb.Settings(console="off", silent=True)
        names = {"project": project, "name": folder.parent.name, "id": _read_run_id(folder)}
        self._run = wandb.init(**names, resume="allow", dir=folder, settings=settings)
        (folder / "run_id").write_text(self._run.id)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._run.log(dict(scalars), step=step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        grids = {name: x.reshape(-1, *x.shape[-3:]) for name, x in images.items()}
        # W&B drops a step that is before the newest one, and images may be late.
        self._run.log({n: list(map(self._image, grid)) for n, grid in grids.items()}, commit=False)

    def write_hparams(self, step: int, hparams: Mapping[str, Any]) -> None:
        self._run.config.update(dict(hparams), allow_val_change=True)

    def close(self) -> None:
        self._run.finish()


@LOGGERS.register("mlflow")
class MlflowWriter:
    """MLflow (extra `mlflow`), without images: the server of `MLFLOW_TRACKING_URI`, by default a
    database in the workdir."""

    PACKAGE: ClassVar = "mlflow"

    def __init__(self, folder: pathlib.Path, start: int = 0):
        import mlflow  # pyright: ignore[reportMissingImports]

        self._mlflow, run_id = mlflow, _read_run_id(folder)
        database = f"sqlite:///{folder.absolute()}/mlflow.db"
        mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or database)
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "affect_jax")
        run = mlflow.start_run(run_id, run_name=folder.parent.name)
        (folder / "run_id").write_text(run.info.run_id)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        # A class may have a name that MLflow does not take.
        named = {re.sub(r"[^\w\-. /:]", "_", k): float(value) for k, value in scalars.items()}
        self._mlflow.log_metrics(named, step)

    def write_hparams(self, step: int, hparams: Mapping[str, Any]) -> None:
        for name, value in hparams.items():
            self._mlflow.log_param(name, value)

    def close(self) -> None:
        self._mlflow.end_run()
