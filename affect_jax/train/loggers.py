"""What a run says while it works: TensorBoard, `metrics.jsonl` and one line on the terminal.

The methods have the names of `clu.metric_writers`, which itself wants TensorFlow.
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
    """Where numbers and pictures go."""

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None: ...

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None: ...

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None: ...

    def write_hparams(self, hparams: Mapping[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoardWriter:
    """TensorBoard events by tensorboardX, which writes them in a thread of its own.

    **Arguments:**

    - `start`: the step the run goes on from; TensorBoard forgets what an interrupted run wrote
      after it.
    """

    def __init__(self, folder: pathlib.Path, start: int = 0):
        import tensorboardX  # half a second that `--help` need not wait for
        from tensorboardX import record_writer

        # tensorboardX says at import and per file what nobody needs
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        self._files = _EventFiles()
        record_writer.register_writer_factory(_SCHEME, self._files)
        self._writer = tensorboardX.SummaryWriter(
            f"{_SCHEME}:{folder}",
            purge_step=start + 1 if start else None,
            flush_secs=10,
            write_to_disk=True,
            filename_suffix=f".{start}.{os.getpid()}",  # else a restart within a second overwrites
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
        """Shown beside the newest headline scores.

        **Arguments:** `hparams`: flat; what is no number or text is shown as JSON.
        """
        from tensorboardX.summary import hparams as summaries

        self._files.check()
        simple = (int, float, str, bool)
        values = {k: v if isinstance(v, simple) else json.dumps(v) for k, v in hparams.items()}
        tags = {name.replace(".", "/"): 0.0 for name in HEADLINES}  # of scalars; values are unused
        # `add_hparams` would open a second file: of the same name within the same second.
        for summary in summaries(values, tags):
            self._writer.file_writer.add_summary(summary)  # pyright: ignore

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


_SCHEME = "affect_jax"  # in front of a path: tells tensorboardX to open files by `_EventFiles`


class _EventFiles:
    """How tensorboardX opens its files here: so that a full disk cannot stop its thread.

    The thread ends with the first `OSError`; the queue to it fills up, and then training waits for
    ever. Here the error is kept, what follows is dropped, and `check` raises it where it belongs.
    """

    def __init__(self) -> None:
        self._error: OSError | None = None
        self._file: Any = None

    def check(self) -> None:
        """Raises what went wrong in the thread since the start."""
        if self._error is not None:
            raise OSError(*self._error.args)

    def directory_check(self, path: str) -> None:
        os.makedirs(path.removeprefix(f"{_SCHEME}:"), exist_ok=True)

    def open(self, path: str) -> _EventFiles:
        self._file = open(path.removeprefix(f"{_SCHEME}:"), "wb")
        return self

    def write(self, content: bytes) -> None:
        self._attempt("write", content)

    def flush(self) -> None:
        self._attempt("flush")

    def close(self) -> None:
        self._attempt("close")

    def _attempt(self, method: str, *arguments: Any) -> None:
        try:
            if self._error is None:
                getattr(self._file, method)(*arguments)
        except OSError as error:
            self._error = error
            with contextlib.suppress(OSError):
                self._file.close()  # what it still holds may fit


class JsonWriter:
    """One JSON object a call of `write_scalars`: `{"step": 50, "time": ..., "loss": ...}`.

    A value that is not finite is null, as JSON has no other word for it. Going on from a step drops
    the lines after it, so that none is there twice.
    """

    def __init__(self, path: pathlib.Path, start: int = 0):
        self._path = path
        kept = [line for line in _lines(path) if _step(line) <= start]
        partial = path.with_name(path.name + ".partial")
        partial.write_text("".join(f"{line}\n" for line in kept))
        partial.replace(path)
        self._file = path.open("a")

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        values = {k: float(v) if math.isfinite(v) else None for k, v in scalars.items()}
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **values}) + "\n")
        self._file.flush()

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Pictures are for TensorBoard."""

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        """Texts are for TensorBoard."""

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """The workdir holds them, as `config.json`."""

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _lines(path: pathlib.Path) -> list[str]:
    return path.read_text(errors="replace").splitlines() if path.exists() else []


def _step(line: str) -> float:
    """The step of a line; infinite for one that a kill or a full disk cut short."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class MultiWriter:
    """All of them. What cannot be written is said once, and the run goes on.

    **Arguments:** `create`: functions that make the writers.
    """

    def __init__(self, create: Sequence[Callable[[], Writer]]):
        self._create, self._writers = create, []
        self._thread = futures.ThreadPoolExecutor(1, "pictures")
        self._drawn: futures.Future[None] | None = None
        self.open()

    def open(self) -> None:
        """Makes the writers, or makes them anew where their files are gone."""
        self.close()
        self._writers: list[Writer] = []
        self._warned = False
        for make in self._create:
            with self._warning():
                self._writers.append(make())

    def _each(self, method: str, *arguments: Any) -> None:
        for writer in self._writers:
            with self._warning():
                getattr(writer, method)(*arguments)

    @contextlib.contextmanager
    def _warning(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if not self._warned:
                absl_logging.warning(
                    "metrics cannot be written: %s; training goes on without them", error
                )
            self._warned = True

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._each("write_scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._each("write_images", step, images)

    def draw_images(self, step: int, draw: Callable[[], Mapping[str, np.ndarray]]) -> None:
        """Writes the pictures that `draw` returns, both in a thread: the run goes on meanwhile.

        Waits for those before.
        """
        self._wait_for_pictures()
        if self._writers:
            self._drawn = self._thread.submit(lambda: self.write_images(step, draw()))

    def _wait_for_pictures(self) -> None:
        """Raises what went wrong with them, but for what could not be written."""
        drawn, self._drawn = self._drawn, None
        if drawn is not None:
            drawn.result()

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._each("write_texts", step, texts)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._each("write_hparams", hparams)

    def flush(self) -> None:
        self._wait_for_pictures()
        self._each("flush")

    def close(self) -> None:
        try:
            self._wait_for_pictures()
        finally:
            self._each("close")

    def __enter__(self) -> MultiWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_writer(workdir: pathlib.Path, start: int = 0) -> MultiWriter:
    """TensorBoard events in `workdir/tensorboard`, numbers also in `workdir/metrics.jsonl`.

    One process of several writes; the others' writer has nothing to write to.
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
    """A bar with loss, images/s and time left when a person watches, plain lines when not.

    **Arguments:**

    - `total`, `start`: steps of the run, and those done before.
    - `steps_per_epoch`: to show the epoch.
    """

    def __init__(self, total: int, start: int, steps_per_epoch: int):
        self._total, self._steps_per_epoch = total, steps_per_epoch
        self._silent = not parallel.is_main()
        self._watched = sys.stderr.isatty() and not self._silent
        self._bar = tqdm.tqdm(
            total=total, initial=start, unit="step", disable=not self._watched, dynamic_ncols=True
        )

    def advance(self, steps: int = 1) -> None:
        self._bar.update(steps)

    def line(self, step: int, **shown: float) -> None:
        """Shows values by their names: on the bar, or as one line."""
        epoch = f"epoch {step / self._steps_per_epoch:.2f}"
        values = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self._watched:
            self._bar.set_description(epoch)
            self._bar.set_postfix_str(values)
        else:
            percent = f"{100 * step / self._total:.0f}%"
            self.say(f"step {step} of {self._total} ({percent}), {epoch}: {values}")

    def say(self, text: str) -> None:
        """A line of its own, above the bar if there is one."""
        if self._watched:
            tqdm.tqdm.write(text, file=sys.stderr)
        elif not self._silent:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
