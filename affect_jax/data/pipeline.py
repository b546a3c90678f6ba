"""Rows of a release read by an Apache Beam pipeline: by many machines, into the same records.

Beam (the extra `beam`) runs on this machine, Dataflow, Flink and Spark. `tfds` writes what the
pipeline gives into an unfinished folder, and renames that once all is there: what a killed driver
or worker leaves never looks like a data set.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shlex
import threading
from collections.abc import Callable, Iterable
from typing import Any

import psutil

from affect_jax.data import faces
from affect_jax.errors import UserError

SECONDS_TO_END = 5.0  # that a pipeline has once a worker is gone


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
    that hears of its death.

    **Arguments:** `options`: the pipeline's, as from `options`.

    **Raises:** what `work` raises; `UserError` where a worker died.
    """
    from apache_beam.options.pipeline_options import DirectOptions

    if options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        work()  # runners of clusters want the main thread
        return
    ends: queue.Queue[BaseException | None] = queue.Queue()

    def whole() -> None:
        try:
            work()
            ends.put(None)
        except BaseException as error:  # handed to the caller, whatever it is
            ends.put(error)

    def of_a_thread(failure: threading.ExceptHookArgs) -> None:
        if failure.thread is not None and failure.thread.name == "run_worker":
            ends.put(
                WorkerDied(
                    "data.options.beam: a worker process died, perhaps for want of memory "
                    f"({failure.exc_value}); nothing was prepared: start again, with fewer workers"
                )
            )
        else:
            usual(failure)

    usual, threading.excepthook = threading.excepthook, of_a_thread
    try:
        threading.Thread(target=whole, name="pipeline", daemon=True).start()
        end = ends.get()
        with contextlib.suppress(queue.Empty):  # one that dies after the last record is no loss
            end = ends.get(timeout=SECONDS_TO_END) if isinstance(end, WorkerDied) else end
    finally:
        _end_workers()
        threading.excepthook = usual
    if end is not None:
        raise end


def _end_workers() -> None:
    """Ends the local workers, and what waits for them; one that starts meanwhile as well."""
    waiting = [thread for thread in threading.enumerate() if thread.name == "run_worker"]
    for thread in waiting:
        for what in ("suspend", "kill"):  # stopped first, a shell starts no worker behind our back
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):  # it may end by itself
                    if any("sdk_worker" in word for word in process.cmdline()):
                        getattr(process, what)()
        thread.join(timeout=5)
