"""Writers of metrics and images: `metrics.jsonl` and the loggers of `config.loggers`.

The methods have the names of `clu.metric_writers`, which itself needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import logging
import math
import os
import pathlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from absl import logging as absl_logging

from affect_jax.core import processes
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically
from affect_jax.core.registry import Registry
from affect_jax.evaluate import selection_bias
from affect_jax.metrics.protocol import HEADLINES

LOGGERS = Registry("logger")
"""Name -> class(folder, start) with the methods of `TensorBoardWriter`, or some of them, and
`PACKAGE`, if it needs one that this package does not."""


@LOGGERS.register("tensorboard")
class TensorBoardWriter:
    """TensorBoard events.

    **Arguments:** `start`: the step that the run resumes from. TensorBoard drops events of later
    steps, which an interrupted run wrote.
    """

    def __init__(self, folder: pathlib.Path, start: int = 0):
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)  # it logs at import
        import tensorboardX.summary  # the import takes half a second
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._summaries, self._protos = tensorboardX.summary, event_pb2
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".{start}.{os.getpid()}"  # unique if a run restarts within 1 s
        self._events = EventsWriter(str(folder / "events"), suffix)
        if start:
            self._write(start + 1, session_log={"status": "START"})

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._write(step, summary=self._summaries.scalar(name.replace(".", "/"), value))
        self._events.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """**Arguments:** `images`: uint8 [H, W, 3], or [N, H, W, 3] shown as a grid."""
        for name, image in images.items():
            layout = "NHWC" if image.ndim == 4 else "HWC"
            self._write(step, summary=self._summaries.image(name, image, dataformats=layout))
        self._events.flush()

    def write_hparams(self, step: int, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters; TensorBoard shows them beside the newest headline scores.

        **Arguments:** `hparams`: a flat dict; values other than numbers and texts become JSON.
        """
        is_plain = (int, float, str, bool)
        values = {k: v if isinstance(v, is_plain) else json.dumps(v) for k, v in hparams.items()}
        # TensorBoard uses the names of these scalars, not their values.
        tags = {name.replace(".", "/"): 0.0 for name in HEADLINES}
        for summary in self._summaries.hparams(values, tags):
            self._write(step, summary=summary)

    def close(self) -> None:
        self._events.close()

    def _write(self, step: int, **content: Any) -> None:
        self._events.write_event(self._protos.Event(wall_time=time.time(), step=step, **content))


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
        self._run.log({n: list(map(self._image, grid)) for n, grid in grids.items()}, step=step)

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


def require_packages(loggers: Sequence[str]) -> None:
    """**Raises:** `UserError` if the package of a logger is not installed."""
    for name in loggers:
        package = getattr(LOGGERS[name], "PACKAGE", None)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"loggers: {package} is missing: pip install 'affect_jax[{name}]'")


class JsonWriter:
    """Writes one JSON object per call of `write_scalars`: `{"step": 50, "time": ..., "loss": ...}`.

    A value that is not finite becomes null, since JSON has no NaN. Resuming from step `start` drops
    the lines of later steps, so no step appears twice.
    """

    def __init__(self, path: pathlib.Path, start: int = 0):
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        kept = "".join(f"{line}\n" for line in lines if _step_of_line(line) <= start)
        with write_atomically(path) as partial:
            partial.write_text(kept)
        self._file = path.open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, Any]) -> None:
        """**Arguments:** `scalars`: numbers, or lists of numbers without NaN."""
        values = {
            k: v if isinstance(v, list) else float(v) if math.isfinite(v) else None
            for k, v in scalars.items()
        }
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step_of_line(line: str) -> float:
    """Step of a line; infinite if the line is incomplete, as after a kill or on a full disk."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):  # the last two if a user edited the file
        return math.inf


class ReopeningWriter:
    """Calls a writer, logs its errors, and opens its file again at the next call.

    What should have been written meanwhile is lost. TensorBoard gets a new file, since it cannot
    read what follows a record that was cut off. After an error that is no `OSError`, such as that
    of a server, nothing more is written: each attempt could take minutes.

    **Arguments:** `writer_class`: an entry of `LOGGERS`, or `JsonWriter`; the others are its own.
    """

    def __init__(self, writer_class: Any, path: pathlib.Path, start: int):
        self._class, self._path, self._start = writer_class, path, start
        self._writer: Any = None
        self._failing = self._is_off = False

    def call(self, method: str, step: int, content: Mapping[str, Any]) -> None:
        """Calls a method for a step, if the writer has it."""
        if self._is_off or not hasattr(self._class, method):
            return
        try:
            if self._writer is None:
                self._writer = self._class(self._path, step - 1 if self._failing else self._start)
            getattr(self._writer, method)(step, content)
            self._failing = False
        except Exception as error:
            if not self._failing:
                text = "%s cannot be written: %s; training continues"
                absl_logging.warning(text, self._path, error)
            self._failing, self._is_off = True, not isinstance(error, OSError)
            self.close()

    def close(self) -> None:
        writer, self._writer = self._writer, None
        with contextlib.suppress(Exception):
            if writer is not None:
                writer.close()


class MetricWriter(contextlib.ExitStack):
    """Writes `metrics.jsonl`, and what the loggers write, to the workdir; only process 0 writes.

    Errors are logged and do not stop the run, see `ReopeningWriter`.

    **Arguments:** `start`: the step that the run resumes from; `loggers`: names in `LOGGERS`.
    """

    def __init__(
        self, folder: pathlib.Path, start: int = 0, loggers: Sequence[str] = ("tensorboard",)
    ):
        super().__init__()
        classes = {name: LOGGERS[name] for name in loggers} | {"metrics.jsonl": JsonWriter}
        if not processes.is_main():
            classes = {}
        self._writers = [ReopeningWriter(c, folder / name, start) for name, c in classes.items()]
        self._evaluations = ReopeningWriter(JsonWriter, folder / selection_bias.FILE, start)
        for writer in (*self._writers, self._evaluations):
            self.callback(writer.close)

    def _write(self, method: str, step: int, content: Mapping[str, Any]) -> None:
        for writer in self._writers:
            writer.call(method, step, content)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._write("write_scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._write("write_images", step, images)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._write("write_hparams", 0, hparams)

    def write_evaluation(self, step: int, score: float, samples: list[float | None]) -> None:
        """Writes to `evaluations.jsonl`, see `selection_bias`."""
        self._evaluations.call("write_scalars", step, {"score": score, "samples": samples})
