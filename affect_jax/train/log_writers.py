"""Writers of metrics and images (TensorBoard, `metrics.jsonl`) and progress on the terminal.

The methods have the names of `clu.metric_writers`, which itself needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent import futures
from typing import Any

import numpy as np
import tqdm
from absl import logging as absl_logging

from affect_jax.core import parallel
from affect_jax.core.paths import write_atomically
from affect_jax.metrics.protocol import HEADLINES

FLUSH_SECONDS = 10
"""Scalars reach the disk at least this often if they are written that often."""


class TensorBoardWriter:
    """Writes TensorBoard events. After the first `OSError` it writes nothing more.

    A record that was cut off makes TensorBoard ignore the rest of its file.

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
        self._failed, self._flush_time = False, 0.0
        folder.mkdir(parents=True, exist_ok=True)
        suffix = f".{start}.{os.getpid()}"  # unique if a run restarts within 1 s
        self._events = EventsWriter(str(folder / "events"), suffix)
        if start:
            self._write(start + 1, session_log={"status": "START"})

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._write(step, summary=self._summaries.scalar(name.replace(".", "/"), value))
        if time.monotonic() > self._flush_time + FLUSH_SECONDS:
            self.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """**Arguments:** `images`: uint8 [H, W, 3], or [N, H, W, 3] shown as a grid."""
        for name, image in images.items():
            layout = "NHWC" if image.ndim == 4 else "HWC"
            self._write(step, summary=self._summaries.image(name, image, dataformats=layout))

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
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
            self._write(0, summary=summary)

    def flush(self) -> None:
        self._flush_time = time.monotonic()
        self._attempt(self._events.flush)

    def close(self) -> None:
        self._attempt(self._events.close)

    def _write(self, step: int, **content: Any) -> None:
        event = self._protos.Event(wall_time=time.time(), step=step, **content)
        self._attempt(self._events.write_event, event)

    def _attempt(self, function: Callable, *arguments: Any) -> None:
        """Calls a function unless an earlier call raised `OSError`."""
        if self._failed:
            return
        try:
            function(*arguments)
        except OSError:
            self._failed = True
            raise


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

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        values = {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _step_of_line(line: str) -> float:
    """Step of a line; infinite if the line is incomplete, as after a kill or on a full disk."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class MetricWriter:
    """Writes to `tensorboard/` and `metrics.jsonl` in the workdir; only process 0 writes.

    A write error is logged once and does not stop the run.

    **Arguments:**

    - `folder`: the workdir.
    - `start`: the step that the run resumes from.
    """

    def __init__(self, folder: pathlib.Path, start: int = 0):
        self._executor = futures.ThreadPoolExecutor(1, "images")
        self._pending_images: futures.Future[None] | None = None
        self._tensorboard: TensorBoardWriter | None = None
        self._metrics: JsonWriter | None = None
        self._warned = False
        if parallel.is_main():
            with self._warn_once():
                self._tensorboard = TensorBoardWriter(folder / "tensorboard", start)
            with self._warn_once():
                self._metrics = JsonWriter(folder / "metrics.jsonl", start)

    @contextlib.contextmanager
    def _warn_once(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                absl_logging.warning(
                    "metrics cannot be written: %s; training continues without them", error
                )
            self._warned = True

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for writer in filter(None, (self._tensorboard, self._metrics)):
            with self._warn_once():
                writer.write_scalars(step, scalars)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        if self._tensorboard is not None:
            with self._warn_once():
                self._tensorboard.write_hparams(hparams)

    def draw_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Calls `draw` and writes its images, both in a thread while the run continues.

        It first waits for the previous images.
        """
        self.wait_for_images()
        if self._tensorboard is not None:
            self._pending_images = self._executor.submit(self._write_images, step, draw)

    def _write_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
        assert self._tensorboard is not None
        images = draw()
        with self._warn_once():
            self._tensorboard.write_images(step, images)

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
            for writer in filter(None, (self._tensorboard, self._metrics)):
                with self._warn_once():
                    writer.close()


class Progress:
    """Shows progress: a bar on a terminal, else plain lines.

    The bar shows loss, images per second and the time left.

    **Arguments:**

    - `total`, `start`: steps of the run, and the step that it resumes from.
    - `steps_per_epoch`: converts steps to epochs.
    """

    def __init__(self, total: int, start: int, steps_per_epoch: int):
        self._total, self._steps_per_epoch = total, steps_per_epoch
        self._silent = not parallel.is_main()
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            unit="step",
            disable=True if self._silent else None,  # None: shown on a terminal only
            dynamic_ncols=True,
        )

    def advance(self, steps: int = 1) -> None:
        self._bar.update(steps)

    def log_metrics(self, step: int, **values: float) -> None:
        """Shows named values on the bar or as one line."""
        epoch = f"epoch {step / self._steps_per_epoch:.2f}"
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._bar.disable:
            percent = f"{100 * step / self._total:.0f}%"
            self.print(f"step {step} of {self._total} ({percent}), {epoch}: {text}")
        else:
            self._bar.set_description(epoch)
            self._bar.set_postfix_str(text)

    def print(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if not self._silent:
            tqdm.tqdm.write(text, file=sys.stderr)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
