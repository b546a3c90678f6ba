"""Rows of a release read by an Apache Beam pipeline: by many machines, into the same records.

Beam (the extra `beam`) runs on this machine, Dataflow, Flink and Spark. `tfds` writes what the
pipeline gives into an unfinished folder, and renames that once all is there: what a killed driver
or worker leaves never looks like a data set.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import shlex
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from affect_jax.data import faces
from affect_jax.errors import UserError

SECONDS_TO_END = 5.0  # for a worker's end, and for its being known after what it broke


class WorkerDied(UserError):
    """One of the local processes of a pipeline is no more."""


def options(text: str) -> Any:
    """Beam's pipeline options from the text of a command line.

    **Raises:** `UserError` where Beam is not installed.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"data.options.beam = {text!r}: needs Apache Beam: pip install 'affect_jax[beam]'"
        ) from None
    return PipelineOptions(shlex.split(text))


def examples(
    rows: Callable[[], Iterable[faces.Row]], settings: faces.Settings, skipped: Any
) -> Any:
    """A Beam transform: nothing -> (id, record) of every row that can be used.

    **Arguments:**

    - `rows`: picklable; read by one worker and handed to all.
    - `skipped`: file that gets a JSON list of [number, id, reason], one of each row left out.
    """
    import apache_beam as beam

    from affect_jax.data.rows import example

    class ReadFaces(beam.PTransform):
        def expand(self, pipeline: Any) -> Any:
            read = (
                pipeline
                | "Start" >> beam.Create([0])
                | "Rows" >> beam.FlatMap(lambda _: rows())
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.Map(faces.read_face, settings=settings)
            )
            _ = (
                read
                | "Unusable" >> beam.Filter(lambda face: bool(face.reason))
                | "Reason" >> beam.Map(lambda face: (face.number, face.id, face.reason))
                | "All" >> beam.combiners.ToList()
                | "Tell" >> beam.Map(lambda told: skipped.write_text(json.dumps(sorted(told))))
            )
            return (
                read
                | "Usable" >> beam.Filter(lambda face: not face.reason)
                | "Example" >> beam.Map(example)
            )

    return ReadFaces()


def run(work: Callable[[], None], options: Any) -> None:
    """Does what runs a pipeline, and ends with the first of Beam's local processes that dies.

    Beam itself would wait for that worker's answer for ever: the thread that started it is the one
    that hears of its death. Others hear of lost connections; they are told of only where no worker
    died.

    **Arguments:** `options`: the pipeline's, as from `options`.

    **Raises:** what `work` raises; `UserError` where a worker died.
    """
    from apache_beam.options.pipeline_options import DirectOptions, WorkerOptions

    if options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        work()  # runners of clusters want the main thread
        return
    ends: queue.Queue[BaseException | None] = queue.Queue()
    others: list[threading.ExceptHookArgs] = []
    before, usual = set(threading.enumerate()), threading.excepthook

    def whole() -> None:
        try:
            work()
            ends.put(None)
        except BaseException as error:  # handed to the caller, whatever it is
            ends.put(error)

    def of_a_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.thread in before:
            usual(failure)
        elif failure.thread is not None and failure.thread.name == "run_worker":
            ends.put(
                WorkerDied(
                    "data.options.beam: a worker process died, perhaps for want of memory "
                    f"({failure.exc_value}); nothing was prepared: start again, with fewer workers"
                )
            )
        else:
            others.append(failure)

    threading.excepthook = of_a_thread
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.CRITICAL)  # each connection that is lost would be told, by traceback
    options.view_as(WorkerOptions).default_sdk_harness_log_level = "CRITICAL"
    pipeline = threading.Thread(target=whole, name="pipeline", daemon=True)
    pipeline.start()
    try:
        end = _first(ends)
    finally:
        _end_workers(pipeline)
    if isinstance(end, WorkerDied):
        raise end  # threads of its pipeline may still speak: neither hook nor logger is set back
    threading.excepthook = usual
    logger.setLevel(level)
    for failure in others:
        usual(failure)
    if end is not None:
        raise end


def _first(ends: queue.Queue[BaseException | None]) -> BaseException | None:
    """How a pipeline ended; what failed as a worker died may come before its death is known."""
    end = ends.get()
    with contextlib.suppress(queue.Empty):
        if end is not None and not isinstance(end, UserError):
            return ends.get(timeout=SECONDS_TO_END)
    return end


def _end_workers(pipeline: threading.Thread) -> None:
    """Ends local workers for as long as one may start, in a thread: some start after the error."""

    def waiting() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "run_worker"]

    def end() -> None:
        while pipeline.is_alive() or waiting():
            for what in ("suspend", "kill"):  # stopped first, a shell starts none behind our back
                children = psutil.Process().children(recursive=True)
                for process in reversed(children):  # with the last shell this thread may end
                    with contextlib.suppress(psutil.Error):  # it may end by itself
                        if any("sdk_worker" in word for word in process.cmdline()):
                            getattr(process, what)()
            time.sleep(0.1)

    threading.Thread(target=end, name="end_workers", daemon=True).start()
    for thread in waiting():
        thread.join(timeout=SECONDS_TO_END)
