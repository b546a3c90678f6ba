"""What a run says while it works: TensorBoard, `metrics.jsonl` and one line on the terminal.

The methods have the names of `clu.metric_writers`, which itself wants TensorFlow.
"""

from __future__ import annotations

import json
import logging
import math
import pathlib
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tqdm
from absl import logging as absl_logging


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

        # tensorboardX says at import and per file what nobody needs
        logging.getLogger("tensorboardX").setLevel(logging.ERROR)
        purge = start + 1 if start else None
        self._writer = tensorboardX.SummaryWriter(
            str(folder), purge_step=purge, flush_secs=10, write_to_disk=True
        )

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        for name, value in scalars.items():
            self._writer.add_scalar(name.replace(".", "/"), value, step)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """**Arguments:** `images`: uint8 or float in [0, 1], [H, W, 3] or [N, H, W, 3]."""
        for name, image in images.items():
            if image.ndim == 4:
                self._writer.add_images(name, image, step, dataformats="NHWC")
            else:
                self._writer.add_image(name, image, step, dataformats="HWC")

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        for name, text in texts.items():
            self._writer.add_text(name, text, step)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        """**Arguments:** `hparams`: flat; what is no number or text is shown as JSON."""
        simple = (int, float, str, bool)
        values = {k: v if isinstance(v, simple) else json.dumps(v) for k, v in hparams.items()}
        self._writer.add_hparams(values, {}, name=".")

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class JsonWriter:
    """One JSON object a call of `write_scalars`: `{"step": 50, "time": ..., "loss": ...}`.

    A value that is not finite is null, as JSON has no other word for it. Going on from a step drops
    the lines after it, so that none is there twice.
    """

    def __init__(self, path: pathlib.Path, start: int = 0):
        self._path = path
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= start]
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
    """Whole lines of an earlier part of the run; a last one cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    return whole.splitlines()


class MultiWriter:
    """All of them. What cannot be written is said once, and the run goes on."""

    def __init__(self, writers: Sequence[Writer]):
        self._writers, self._warned = writers, False

    def _each(self, method: str, *arguments: Any) -> None:
        for writer in self._writers:
            try:
                getattr(writer, method)(*arguments)
            except OSError as error:
                if not self._warned:
                    absl_logging.warning("metrics cannot be written: %s; training goes on", error)
                self._warned = True

    def write_scalars(self, step: int, scalars: Mapping[str, float]) -> None:
        self._each("write_scalars", step, scalars)

    def write_images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        self._each("write_images", step, images)

    def write_texts(self, step: int, texts: Mapping[str, str]) -> None:
        self._each("write_texts", step, texts)

    def write_hparams(self, hparams: Mapping[str, Any]) -> None:
        self._each("write_hparams", hparams)

    def flush(self) -> None:
        self._each("flush")

    def close(self) -> None:
        self._each("close")

    def __enter__(self) -> MultiWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def create_writer(workdir: pathlib.Path, start: int = 0) -> MultiWriter:
    """TensorBoard events in `workdir/tensorboard`, numbers also in `workdir/metrics.jsonl`."""
    return MultiWriter(
        [
            TensorBoardWriter(workdir / "tensorboard", start),
            JsonWriter(workdir / "metrics.jsonl", start),
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
        self._watched = sys.stderr.isatty()
        self._bar = tqdm.tqdm(
            total=total, initial=start, unit="step", disable=not self._watched, dynamic_ncols=True
        )

    def advance(self) -> None:
        self._bar.update()

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
        else:
            print(text, file=sys.stderr, flush=True)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
