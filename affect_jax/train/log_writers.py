"""Writers of metrics and images (TensorBoard, `metrics.jsonl`) and progress on the terminal.

The methods have the names of `clu.metric_writers`, which itself needs TensorFlow.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import math
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent import futures
from typing import Any, Protocol

import numpy as np
import tqdm
from absl import logging as absl_logging

from affect_jax.core import parallel
from affect_jax.metrics.protocol import HEADLINES


class Writer(Protocol):
    """A destination of scalars, images, texts and hyperparameters."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None: ...

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None: ...

    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoardWriter:
    """Writes TensorBoard events with tensorboardX, in a separate thread.

    **Arguments:**

    - `folder`: the folder of the event files.
    - `start`: the step that the run resumes from. TensorBoard drops events of later steps, which
      an interrupted run wrote.
    """

    def __init__(self, folder: pathlib.Path, start: int = 0):
        import tensorboardX  # the import takes half a second
        from tensorboardX import record_writer

        # tensorboardX logs at import and for each file.
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        self._files = _EventFiles()
        record_writer.register_writer_factory(_SCHEME, self._files)
        self._writer = tensorboardX.SummaryWriter(
            f"{_SCHEME}:{folder}",
            purge_step=start + 1 if start else None,
            flush_secs=10,
            write_to_disk=True,
            filename_suffix=f".{start}.{os.getpid()}",  # unique if a run restarts within 1 s
        )

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._files.check()
        for name, value in scalars.items():
            self._writer.add_scalar(name.replace(".", "/"), value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """**Arguments:** `images`: uint8 or float in [0, 1], [H, W, 3] or [N, H, W, 3]."""
        self._files.check()
        for name, image in images.items():
            if image.ndim == 4:
                self._writer.add_images(name, image, step, dataformats="NHWC")
            else:
                self._writer.add_image(name, image, step, dataformats="HWC")

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._files.check()
        for name, text in texts.items():
            self._writer.add_text(name, text, step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Writes hyperparameters; TensorBoard shows them beside the newest headline scores.

        **Arguments:** `hparams`: a flat dict; values other than numbers and texts become JSON.
        """
        from tensorboardX.summary import hparams as create_summaries

        self._files.check()
        scalar_types = (int, float, str, bool)
        values = {
            k: v if isinstance(v, scalar_types) else json.dumps(v) for k, v in hparams.items()
        }
        # TensorBoard uses the names of these scalars, not their values.
        tags = {name.replace(".", "/"): 0.0 for name in HEADLINES}
        # `add_hparams` would open a second file, which may have the same name as the first.
        for summary in create_summaries(values, tags):
            self._writer.file_writer.add_summary(summary)  # pyright: ignore

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


_SCHEME = "affect_jax"  # path prefix: tensorboardX then opens files with `_EventFiles`


class _EventFiles:
    """File factory with which the thread of tensorboardX survives a full disk.

    Otherwise the thread ends at the first `OSError`, its queue fills up, and training blocks
    forever. This class stores the error and drops later writes; `check` raises the error in the
    caller's thread.
    """

    def __init__(self) -> None:
        self._error: OSError | None = None
        self._file: Any = None

    def check(self) -> None:
        """**Raises:** the first `OSError` of the writing thread."""
        if self._error is not None:
            raise OSError(*self._error.args)

    def directory_check(self, path: str) -> None:
        os.makedirs(path.removeprefix(f"{_SCHEME}:"), exist_ok=True)

    def open(self, path: str) -> _EventFiles:
        self._file = open(path.removeprefix(f"{_SCHEME}:"), "wb")
        return self

    def write(self, content: bytes) -> None:
        self._call("write", content)

    def flush(self) -> None:
        self._call("flush")

    def close(self) -> None:
        self._call("close")

    def _call(self, method: str, *arguments: Any) -> None:
        try:
            if self._error is None:
                getattr(self._file, method)(*arguments)
        except OSError as error:
            self._error = error
            with contextlib.suppress(OSError):
                self._file.close()  # tries to write the rest of the buffer


class JsonWriter:
    """Writes one JSON object per call of `write_scalars`: `{"step": 50, "time": ..., "loss": ...}`.

    A value that is not finite becomes null, since JSON has no NaN. Resuming from a step drops the
    lines of later steps, so no step appears twice.

    **Arguments:**

    - `path`: the file of the lines.
    - `start`: the step that the run resumes from.
    """

    def __init__(self, path: pathlib.Path, start: int = 0):
        self._path = path
        previous_lines = [line for line in _read_lines(path) if _step_of_line(line) <= start]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(f"{line}\n" for line in previous_lines))
        partial.replace(path)
        self._file = path.open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        values = {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Does nothing: only TensorBoard shows images."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Does nothing: only TensorBoard shows texts."""

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """Does nothing: the workdir contains them as `config.json`."""

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _read_lines(path: pathlib.Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _step_of_line(line: str) -> float:
    """Step of a line; infinite if the line is incomplete, as after a kill or on a full disk."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class MultiWriter:
    """Writes to several writers. A write error is logged once and does not stop the run.

    **Arguments:** `factories`: functions that create the writers.
    """

    def __init__(self, factories: Sequence[Callable[[], Writer]]):
        self._writers: list[Writer] = []
        self._executor = futures.ThreadPoolExecutor(1, "images")
        self._pending_images: futures.Future[None] | None = None
        self._warned = False
        for create in factories:
            with self._warn_once():
                self._writers.append(create())

    def _call_all(self, method: str, *arguments: Any) -> None:
        for writer in self._writers:
            with self._warn_once():
                getattr(writer, method)(*arguments)

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
        self._call_all("write_scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._call_all("write_images", step, images)

    def draw_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Calls `draw` and writes its images, both in a thread while the run continues.

        It first waits for the previous images.
        """
        self._wait_for_images()
        if self._writers:
            self._pending_images = self._executor.submit(lambda: self.write_images(step, draw()))

    def _wait_for_images(self) -> None:
        """Waits for the thread. Raises errors of drawing; errors of writing are only logged."""
        pending, self._pending_images = self._pending_images, None
        if pending is not None:
            pending.result()

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._call_all("write_texts", step, texts)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._call_all("write_hparams", hparams)

    def flush(self) -> None:
        self._wait_for_images()
        self._call_all("flush")

    def close(self) -> None:
        try:
            self._wait_for_images()
        finally:
            self._call_all("close")

    def __enter__(self) -> MultiWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_writer(workdir: pathlib.Path, start: int = 0) -> MultiWriter:
    """Creates the writer of `workdir/tensorboard` and `workdir/metrics.jsonl`.

    Only process 0 writes; the writer of other processes does nothing.
    """
    if not parallel.is_main():
        return MultiWriter([])
    return MultiWriter(
        [
            functools.partial(TensorBoardWriter, workdir / "tensorboard", start),
            functools.partial(JsonWriter, workdir / "metrics.jsonl", start),
        ]
    )


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
        self._interactive = sys.stderr.isatty() and not self._silent
        self._bar = tqdm.tqdm(
            total=total,
            initial=start,
            unit="step",
            disable=not self._interactive,
            dynamic_ncols=True,
        )

    def advance(self, steps: int = 1) -> None:
        self._bar.update(steps)

    def log_metrics(self, step: int, **values: float) -> None:
        """Shows named values on the bar or as one line."""
        epoch = f"epoch {step / self._steps_per_epoch:.2f}"
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        if self._interactive:
            self._bar.set_description(epoch)
            self._bar.set_postfix_str(text)
        else:
            percent = f"{100 * step / self._total:.0f}%"
            self.print(f"step {step} of {self._total} ({percent}), {epoch}: {text}")

    def print(self, text: str) -> None:
        """Prints a line, above the bar if there is one."""
        if self._interactive:
            tqdm.tqdm.write(text, file=sys.stderr)
        elif not self._silent:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
