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
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Any

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

    **Arguments:**

    - `folder`: the folder of the event files.
    - `start`: the step that the run resumes from. TensorBoard drops events of later steps, which
      an interrupted run wrote.
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
        scalar_types = (int, float, str, bool)
        values = {
            k: v if isinstance(v, scalar_types) else json.dumps(v) for k, v in hparams.items()
        }
        # TensorBoard uses the names of these scalars, not their values.
        tags = {name.replace(".", "/"): 0.0 for name in HEADLINES}
        for summary in self._summaries.hparams(values, tags):
            self._write(step, summary=summary)

    def close(self) -> None:
        self._events.close()

    def _write(self, step: int, **content: Any) -> None:
        self._events.write_event(self._protos.Event(wall_time=time.time(), step=step, **content))


def require_packages(loggers: Sequence[str]) -> None:
    """**Raises:** `UserError` if the package of a logger is not installed."""
    for name in loggers:
        package = getattr(LOGGERS[name], "PACKAGE", None)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(f"loggers: {package} is missing: pip install 'affect_jax[{name}]'")


class JsonWriter:
    """Writes one JSON object per call of `write_scalars`: `{"step": 50, "time": ..., "loss": ...}`.

    A value that is not finite becomes null, since JSON has no NaN. Resuming from a step drops the
    lines of later steps, so no step appears twice.

    **Arguments:**

    - `path`: the file of the lines.
    - `start`: the step that the run resumes from.
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

    **Arguments:**

    - `writer_class`: an entry of `LOGGERS`, or `JsonWriter`.
    - `path`, `start`: its arguments.
    """

    def __init__(self, writer_class: Any, path: pathlib.Path, start: int):
        self._class, self._path, self._start = writer_class, path, start
        self._writer: Any = None
        self._failing = self._is_off = False
        self._lock = threading.Lock()  # images are written in a thread

    def call(self, method: str, step: int, *arguments: Any) -> None:
        """Calls a method for a step, if the writer has it."""
        if self._is_off or not hasattr(self._class, method):
            return
        with self._lock:
            try:
                if self._writer is None:
                    start = step - 1 if self._failing else self._start
                    self._writer = self._class(self._path, start)
                getattr(self._writer, method)(step, *arguments)
                self._failing = False
            except Exception as error:
                self._is_off = not isinstance(error, OSError)
                if not self._failing:
                    absl_logging.warning(
                        "%s cannot be written: %s; training continues", self._path, error
                    )
                self._failing = True
                self._close()

    def close(self) -> None:
        with self._lock:
            self._close()

    def _close(self) -> None:
        writer, self._writer = self._writer, None
        with contextlib.suppress(Exception):
            if writer is not None:
                writer.close()


class MetricWriter:
    """Writes `metrics.jsonl`, and what the loggers write, to the workdir; only process 0 writes.

    Errors of writing are logged and do not stop the run, see `ReopeningWriter`.

    **Arguments:**

    - `folder`: the workdir.
    - `start`: the step that the run resumes from.
    - `loggers`: names in `LOGGERS`.
    """

    def __init__(
        self, folder: pathlib.Path, start: int = 0, loggers: Sequence[str] = ("tensorboard",)
    ):
        self._executor = futures.ThreadPoolExecutor(1, "images")
        self._pending_images: futures.Future[None] | None = None
        self._writers: list[ReopeningWriter] = []
        self._evaluations = ReopeningWriter(JsonWriter, folder / selection_bias.FILE, start)
        if processes.is_main():
            classes = {name: LOGGERS[name] for name in loggers} | {"metrics.jsonl": JsonWriter}
            for name, writer_class in classes.items():
                self._writers.append(ReopeningWriter(writer_class, folder / name, start))

    def _write(self, method: str, step: int, *arguments: Any) -> None:
        for writer in self._writers:
            writer.call(method, step, *arguments)

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._write("write_scalars", step, scalars)

    def write_evaluation(self, step: int, score: float, samples: list[float | None]) -> None:
        """Writes to `evaluations.jsonl`, see `selection_bias`."""
        self._evaluations.call("write_scalars", step, {"score": score, "samples": samples})

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._write("write_hparams", 0, hparams)

    def draw_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Calls `draw` and writes its images, both in a thread while the run continues.

        It first waits for the previous images.
        """
        self.wait_for_images()
        if self._writers:
            self._pending_images = self._executor.submit(
                lambda: self._write("write_images", step, draw())
            )

    def wait_for_images(self) -> None:
        """Waits for the thread. Raises errors of drawing; errors of writing are only logged."""
        pending, self._pending_images = self._pending_images, None
        if pending is not None:
            pending.result()

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.wait_for_images()
        finally:
            for writer in (*self._writers, self._evaluations):
                writer.close()
