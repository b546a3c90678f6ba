"""Reads the rows of a release in an Apache Beam pipeline, on one or more machines.

Beam (the extra `beam`) runs locally, on Dataflow, on Flink and on Spark. The records are the same
as without Beam. `tfds` runs the pipeline, which writes to an unfinished folder, and renames that
when all records are written, so that a killed driver or worker never leaves a folder that looks
complete.
"""

from __future__ import annotations

import contextlib
import functools
import io
import json
import shlex
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from typing import Any

import psutil

from affect_jax.core.errors import UserError
from affect_jax.data import face_images

TIMEOUT_SECONDS = 60  # for the pipeline to end after a worker process ended


def parse_options(text: str) -> Any:
    """Parses Beam's pipeline options from the text of a command line.

    **Raises:** `UserError` if Beam is not installed or cannot parse the options.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"data.options.beam = {text!r}: needs Apache Beam: pip install 'affect_jax[beam]'"
        ) from None
    try:
        with contextlib.redirect_stderr(io.StringIO()) as stderr:  # argparse prints many lines
            parsed = PipelineOptions(shlex.split(text))
            parsed.get_all_options()
    except (ValueError, SystemExit) as error:
        reason = stderr.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise UserError(f"data.options.beam = {text!r}: {reason}") from None
    return parsed


def create_transform(
    rows: Callable[[], Iterable[face_images.Row]], settings: face_images.Settings, skipped_path: Any
) -> Any:
    """Creates a Beam transform: no input -> (id, record) of every usable row.

    **Arguments:**

    - `rows`: picklable; one worker reads the rows and distributes them.
    - `skipped_path`: the file for a JSON list of [number, id, reason], one per skipped row.
    """
    import apache_beam as beam

    @beam.ptransform_fn
    def read_faces(pipeline: Any) -> Any:
        faces = (
            pipeline
            | "Start" >> beam.Create([0])
            | "Rows" >> beam.FlatMap(lambda _: rows())
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.Map(face_images.read_face, settings=settings)
        )
        _ = (
            faces
            | "Skipped" >> beam.Filter(lambda face: face.record is None)
            | "Reason" >> beam.Map(lambda face: (face.number, face.id, face.reason))
            | "All" >> beam.combiners.ToList()
            | "Write" >> beam.Map(lambda skipped: skipped_path.write_text(json.dumps(skipped)))
        )
        return (
            faces
            | "Usable" >> beam.Filter(lambda face: face.record is not None)
            | "Example" >> beam.Map(lambda face: (face.id, face.record))
        )

    return read_faces()  # pyright: ignore[reportCallIssue]


def create_runner(options: Any) -> Any:
    """Creates a runner of local worker processes that fails if one of them dies.

    Beam's own runner would wait for the dead worker forever.

    **Returns:** None if the options name another runner, which Beam creates.
    """
    from apache_beam.options.pipeline_options import DirectOptions
    from apache_beam.runners.portability.fn_api_runner.fn_runner import FnApiRunner

    class LocalRunner(FnApiRunner):
        def run_pipeline(self, pipeline: Any, options: Any) -> Any:
            return _run_with_workers(functools.partial(super().run_pipeline, pipeline, options))

    mode = options.view_as(DirectOptions).direct_running_mode
    return LocalRunner() if mode == "multi_processing" else None


def _run_with_workers(run: Callable[[], Any]) -> Any:
    """Calls `run` in a thread; ends its processes after an error, SIGTERM or Ctrl-C.

    **Raises:** any error of `run`; `UserError` if a process ends and `run` does not.
    """
    earlier, workers = _child_processes(), set()
    outcome: Future[Any] = Future()

    def set_outcome() -> None:
        try:
            outcome.set_result(run())
        except BaseException as error:  # raised in the caller, whatever it is
            outcome.set_exception(error)

    def stop(number: int, _: Any) -> None:
        sys.exit(128 + number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    threading.Thread(target=set_outcome, daemon=True).start()
    try:
        while not outcome.done():
            running = _child_processes() - earlier
            has_ended = bool(workers - running)  # also at the regular end of the pipeline
            workers = running
            wait([outcome], timeout=TIMEOUT_SECONDS if has_ended else 1)
            if has_ended and not outcome.done():
                raise UserError(
                    "data.options.beam: a worker process died, perhaps because it ran out of "
                    "memory; nothing was prepared: rerun with fewer workers"
                )
        return outcome.result()
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for worker in _child_processes() - earlier:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.kill()


def _child_processes() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))
