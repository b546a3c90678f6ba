"""Rows of a release read by an Apache Beam pipeline: by many machines, into the same records.

Beam (the extra `beam`) runs on this machine, Dataflow, Flink and Spark. `tfds` writes what the
pipeline gives into an unfinished folder, and renames that once all is there: what a killed driver
or worker leaves never looks like a data set.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import queue
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import psutil

from affect_jax.core.errors import UserError
from affect_jax.data import face_images

SECONDS_TO_END = 5.0  # for a worker's end, and for its being known after what it broke


class WorkerDied(UserError):
    """One of the local processes of a pipeline is no more."""


def options(text: str) -> Any:
    """Beam's pipeline options from the text of a command line.

    **Raises:** `UserError` where Beam is not installed or cannot read them.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"data.options.beam = {text!r}: needs Apache Beam: pip install 'affect_jax[beam]'"
        ) from None
    try:
        with contextlib.redirect_stderr(io.StringIO()) as told:  # argparse's, many lines
            found = PipelineOptions(shlex.split(text))
            found.get_all_options()
    except (ValueError, SystemExit) as error:
        if error.args == (0,):  # --help, which is told by now
            raise
        reason = told.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise UserError(f"data.options.beam = {text!r}: {reason}") from None
    return found


def examples(
    rows: Callable[[], Iterable[face_images.Row]],
    settings: face_images.Settings,
    example: Callable[[face_images.Face], tuple[str, dict[str, Any]]],
    skipped: Any,
) -> Any:
    """A Beam transform: nothing -> (id, record) of every row that can be used.

    **Arguments:**

    - `rows`: picklable; read by one worker and handed to all.
    - `example`: face -> (id, record); picklable.
    - `skipped`: file that gets a JSON list of [number, id, reason], one of each row left out.
    """
    import apache_beam as beam

    class ReadFaces(beam.PTransform):
        def expand(self, pipeline: Any) -> Any:
            read = (
                pipeline
                | "Start" >> beam.Create([0])
                | "Rows" >> beam.FlatMap(lambda _: rows())
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.Map(face_images.read_face, settings=settings)
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

    **Raises:** what `work` raises; `UserError` where a worker died. Threads that wait are left
    behind then, and what others fail with is not told: the process is to end.
    """
    from apache_beam.options.pipeline_options import DirectOptions, WorkerOptions

    if options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        work()  # runners of clusters want the main thread
        return
    told = options.view_as(WorkerOptions)
    told.default_sdk_harness_log_level = told.default_sdk_harness_log_level or "CRITICAL"
    ends: queue.Queue[BaseException | None] = queue.Queue()

    def all_of_it() -> None:
        try:
            work()
            ends.put(None)
        except BaseException as error:  # handed to the caller, whatever it is
            ends.put(error)

    pipeline = threading.Thread(target=all_of_it, name="pipeline", daemon=True)
    with _listening(ends), _stopping_first():
        try:
            pipeline.start()
            end = _first(ends)
        finally:
            _end_workers(pipeline)
        if end is not None:
            raise end


@contextlib.contextmanager
def _listening(ends: queue.Queue[BaseException | None]) -> Iterator[None]:
    """Puts deaths of workers into `ends`. What else Beam's threads fail with is told at the end.

    Where a worker died, or all are stopped, they fail with lost connections for as long as they
    live, which nobody needs to hear: neither hook nor logger is set back then.
    """
    others: list[threading.ExceptHookArgs] = []
    before, usual = set(threading.enumerate()), threading.excepthook
    logger = logging.getLogger("apache_beam")
    level = logger.level

    def hear(failure: threading.ExceptHookArgs) -> None:
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

    threading.excepthook = hear
    logger.setLevel(logging.CRITICAL)  # each connection that is lost would be told, by traceback
    leaving = False
    try:
        yield
    except (WorkerDied, SystemExit):
        leaving = True
        raise
    finally:
        if not leaving:
            threading.excepthook = usual
            logger.setLevel(level)
            for failure in others:
                usual(failure)


@contextlib.contextmanager
def _stopping_first() -> Iterator[None]:
    """SIGTERM and Ctrl-C end what is inside, by `SystemExit`, and then do what they always do."""
    came: list[int] = []

    def stop(number: int, _: Any) -> None:
        came.append(number)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python lets no other thread handle signals
        return
    usual = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _first(ends: queue.Queue[BaseException | None]) -> BaseException | None:
    """How a pipeline ended.

    What failed as a worker died may come before its death is known. The death of one after the last
    record may come before the end, and is no loss; so may that of one before an error of ours.
    """

    def final(end: BaseException | None) -> bool:
        return end is None or (isinstance(end, UserError) and not isinstance(end, WorkerDied))

    found, until = [ends.get()], time.monotonic() + SECONDS_TO_END
    with contextlib.suppress(queue.Empty):
        while not final(found[-1]):
            found.append(ends.get(timeout=max(0.0, until - time.monotonic())))
    if final(found[-1]):
        return found[-1]
    return next((end for end in found if isinstance(end, WorkerDied)), found[0])


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
