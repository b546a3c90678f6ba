"""Reads the rows of a release in an Apache Beam pipeline, on one or more machines.

Beam (the extra `beam`) runs locally, on Dataflow, on Flink and on Spark. The records are the same
as without Beam. `tfds` writes them to an unfinished folder and renames it when all records are
written, so that a killed driver or worker never leaves a folder that looks complete.
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

WORKER_EXIT_SECONDS = 5.0  # for a worker to exit, and for its death to be reported


class WorkerDied(UserError):
    """A local worker process of a pipeline died."""


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
        if error.args == (0,):  # --help, which argparse has printed
            raise
        reason = stderr.getvalue().strip().rpartition("error: ")[2] or str(error)
        raise UserError(f"data.options.beam = {text!r}: {reason}") from None
    return parsed


def create_transform(
    rows: Callable[[], Iterable[face_images.Row]],
    settings: face_images.Settings,
    to_example: Callable[[face_images.Face], tuple[str, dict[str, Any]]],
    skipped_path: Any,
) -> Any:
    """Creates a Beam transform: no input -> (id, record) of every usable row.

    **Arguments:**

    - `rows`: picklable; one worker reads the rows and distributes them.
    - `to_example`: face -> (id, record); picklable.
    - `skipped_path`: the file for a JSON list of [number, id, reason], one per skipped row.
    """
    import apache_beam as beam

    def write_skipped(reasons: list) -> None:
        skipped_path.write_text(json.dumps(sorted(reasons)))

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
                | "Write" >> beam.Map(write_skipped)
            )
            return (
                read
                | "Usable" >> beam.Filter(lambda face: not face.reason)
                | "Example" >> beam.Map(to_example)
            )

    return ReadFaces()


def run_pipeline(work: Callable[[], None], options: Any) -> None:
    """Calls a function that runs a pipeline, and fails as soon as a local Beam worker dies.

    Beam itself would wait forever for the answer of that worker: only the thread that started the
    worker receives the error.

    **Arguments:**

    - `work`: runs the pipeline.
    - `options`: options of the pipeline, from `parse_options`.

    **Raises:** any error of `work`; `UserError` if a worker died. In that case, waiting threads are
    left running and further errors are discarded, so the process should exit.
    """
    from apache_beam.options.pipeline_options import DirectOptions, WorkerOptions

    if options.view_as(DirectOptions).direct_running_mode != "multi_processing":
        work()  # cluster runners need the main thread
        return
    worker_options = options.view_as(WorkerOptions)
    worker_options.default_sdk_harness_log_level = (
        worker_options.default_sdk_harness_log_level or "CRITICAL"
    )
    outcomes: queue.Queue[BaseException | None] = queue.Queue()

    def run_work() -> None:
        try:
            work()
            outcomes.put(None)
        except BaseException as error:  # raised in the caller, whatever it is
            outcomes.put(error)

    pipeline = threading.Thread(target=run_work, name="pipeline", daemon=True)
    with _watch_threads(outcomes), _exit_on_signals():
        try:
            pipeline.start()
            outcome = _wait_for_outcome(outcomes)
        finally:
            _end_workers(pipeline)
        if outcome is not None:
            raise outcome


@contextlib.contextmanager
def _watch_threads(outcomes: queue.Queue[BaseException | None]) -> Iterator[None]:
    """Puts deaths of workers into `outcomes`; reports other errors of Beam's threads at the end.

    After a worker died or all were stopped, the threads fail with lost connections as long as they
    run. These errors are irrelevant, so hook and logger are then not restored.
    """
    other_failures: list[threading.ExceptHookArgs] = []
    earlier_threads, original_hook = set(threading.enumerate()), threading.excepthook
    logger = logging.getLogger("apache_beam")
    level = logger.level

    def on_thread_error(failure: threading.ExceptHookArgs) -> None:
        if failure.thread in earlier_threads:
            original_hook(failure)
        elif failure.thread is not None and failure.thread.name == "run_worker":
            outcomes.put(
                WorkerDied(
                    "data.options.beam: a worker process died, perhaps because it ran out of "
                    f"memory ({failure.exc_value}); nothing was prepared: rerun with fewer workers"
                )
            )
        else:
            other_failures.append(failure)

    threading.excepthook = on_thread_error
    logger.setLevel(logging.CRITICAL)  # else it logs a traceback per lost connection
    is_exiting = False
    try:
        yield
    except (WorkerDied, SystemExit):
        is_exiting = True
        raise
    finally:
        if not is_exiting:
            threading.excepthook = original_hook
            logger.setLevel(level)
            for failure in other_failures:
                original_hook(failure)


@contextlib.contextmanager
def _exit_on_signals() -> Iterator[None]:
    """On SIGTERM or Ctrl-C, raises `SystemExit` in the block, then raises the signal again."""
    received: list[int] = []

    def stop(number: int, _: Any) -> None:
        received.append(number)
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals only in the main thread
        return
    original_handlers = {
        number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield
    finally:
        for number, handler in original_handlers.items():
            signal.signal(number, handler)
        for number in received:
            signal.raise_signal(number)


def _wait_for_outcome(outcomes: queue.Queue[BaseException | None]) -> BaseException | None:
    """Waits for the outcome of a pipeline: None if it succeeded, else its error.

    Errors caused by the death of a worker may arrive before the death itself. A worker may also die
    after the last record, or before a `UserError` arrives; success and `UserError` take precedence.
    """

    def is_final(outcome: BaseException | None) -> bool:
        return outcome is None or (
            isinstance(outcome, UserError) and not isinstance(outcome, WorkerDied)
        )

    arrived, deadline = [outcomes.get()], time.monotonic() + WORKER_EXIT_SECONDS
    with contextlib.suppress(queue.Empty):
        while not is_final(arrived[-1]):
            arrived.append(outcomes.get(timeout=max(0.0, deadline - time.monotonic())))
    if is_final(arrived[-1]):
        return arrived[-1]
    return next((outcome for outcome in arrived if isinstance(outcome, WorkerDied)), arrived[0])


def _end_workers(pipeline: threading.Thread) -> None:
    """Kills local workers in a thread, also those that start after the error."""

    def worker_threads() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread.name == "run_worker"]

    def kill_workers() -> None:
        while pipeline.is_alive() or worker_threads():
            for action in ("suspend", "kill"):  # a suspended shell starts no new worker
                children = psutil.Process().children(recursive=True)
                for process in reversed(children):  # the thread may end with the last shell
                    with contextlib.suppress(psutil.Error):  # it may have exited
                        if any("sdk_worker" in word for word in process.cmdline()):
                            getattr(process, action)()
            time.sleep(0.1)

    threading.Thread(target=kill_workers, name="end_workers", daemon=True).start()
    for thread in worker_threads():
        thread.join(timeout=WORKER_EXIT_SECONDS)
