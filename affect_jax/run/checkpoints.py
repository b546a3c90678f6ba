"""Checkpoints by Orbax: asynchronous, the last few and the best, checked byte for byte when read.

A step's folder appears whole or not at all (Orbax renames it when it is complete). Orbax 0.12 does
not notice bytes that changed afterwards, so each checkpoint carries the SHA-256 of every array in
its `info`, and `restore` compares.

Resume order: the run's own newest whole checkpoint, with a warning for each newer one that is
damaged; a fresh start only where there is no checkpoint at all.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import functools
import logging as logging_records
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers as policies

from affect_jax.config import Config
from affect_jax.core.errors import UserError, first_line
from affect_jax.run import manifest
from affect_jax.run.workdir import Workdir

_STEP = re.compile("0|[1-9][0-9]*")  # how Orbax names a checkpoint's folder

# Orbax measures by a clock that may be set: a day's jump would be a save that took a day.
_NO_TIMEOUT = 30 * 365 * 86_400  # seconds
_ALONE = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="affect_jax"
)
"""Process 0 writes and reads for all: a state is whole on every device."""

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one run. A context manager: leaving it waits for the last save.

    **Arguments:**

    - `directory`: made when the first checkpoint is saved.
    - `keep_last`: how many of the newest stay.
    - `best_score`: name of the score whose best checkpoint stays too; with `-` in front smaller
      is better.
    """

    def __init__(self, directory: pathlib.Path, *, keep_last: int = 2, best_score: str = ""):
        self.directory = directory.absolute()
        self._score, self._smaller = best_score.removeprefix("-"), best_score.startswith("-")
        keep: list[policies.PreservationPolicy] = [policies.LatestN(keep_last)]
        if best_score:
            keep.append(_Chosen(self.best))
        self._options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=policies.AnyPreservationPolicy(keep),
            cleanup_tmp_directories=True,  # of runs that were killed while they wrote
            async_options=ocp.AsyncOptions(timeout_secs=_NO_TIMEOUT),
            multiprocessing_options=_ALONE,
        )
        self._opened: _Manager | None = None
        self._scores_of: dict[int, dict[str, float]] = {}  # of steps that may not be on disk yet

    @classmethod
    def of(cls, config: Config, workdir: Workdir) -> Checkpoints:
        """The checkpoints of the run in `workdir`."""
        return cls(
            workdir.path / "checkpoints",
            keep_last=config.checkpoint.keep_last,
            best_score=config.checkpoint.best,
        )

    @property
    def _manager(self) -> _Manager:
        if self._opened is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            logging.get_absl_logger().addFilter(self._no_traceback)
            self._opened = _Manager(
                self.directory, options=self._options, item_handlers=_handlers()
            )
        return self._opened

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rank(self, scores: Any) -> float:
        """Larger is better; a score that is undefined or absent is worst."""
        value = scores[self._score] if self._score in scores else None
        if value is None or np.isnan(value):
            return -np.inf
        return -value if self._smaller else value

    def steps(self) -> list[int]:
        """Steps of all checkpoints that were written to the end, ascending.

        **Raises:** `UserError` where their folder is something else: a run would start anew.
        """
        if not self.directory.is_dir():
            if os.path.lexists(self.directory):
                raise UserError(f"{self.directory}: no folder, or a link to one that is not there")
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if _STEP.fullmatch(name))

    def best(self, steps: Sequence[int] | None = None) -> int | None:
        """The step with the best score, None where none of them (of all) has one."""
        scored = {step: self._scores(step) for step in (self.steps() if steps is None else steps)}
        ranked = [(self._rank(scores), step) for step, scores in scored.items() if scores]
        return max(ranked)[1] if ranked else None

    def _scores(self, step: int) -> dict[str, float]:
        if step not in self._scores_of:
            try:
                info = manifest.open_info(self.directory / str(step))
            except manifest.Damaged:
                return {}
            self._scores_of[step] = info["scores"] if "scores" in info else {}
        return self._scores_of[step]

    def save(
        self, step: int, state: Any, info: dict[str, Any], scores: dict[str, float] | None = None
    ) -> None:
        """Starts writing a checkpoint and returns; a failure is a warning, not the end of the run.

        **Arguments:**

        - `state`: pytree of NumPy arrays that nobody changes afterwards.
        - `info`: what JSON can hold: epoch, config, hash of the data, machine.
        - `scores`: of this state, where it was evaluated.
        """
        leaves = _named_leaves(state)
        # Sealed with the rest: Orbax's own file of scores has no checksum, and stops it if damaged.
        self._scores_of[step] = {name: float(value) for name, value in (scores or {}).items()}
        own = {"format": manifest.FORMAT, "step": step, "scores": self._scores_of[step]}
        body = manifest.seal({**own, "arrays": manifest.describe(leaves), **info})
        self.wait()  # an earlier save's failure is not this one's
        with self._warning(step):
            self._check_room(sum(leaf.nbytes for leaf in leaves.values()))
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(leaves), info=ocp.args.JsonSave(body)
                ),
            )

    def _check_room(self, needed: int) -> None:
        """Raises `OSError` before Orbax begins what cannot end well, and fills the disk with it."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.directory):
            free = shutil.disk_usage(self.directory).free
        if free < needed:
            message = f"{needed >> 20} MiB are needed, {free >> 20} MiB are free"
            raise OSError(errno.ENOSPC, message)

    def wait(self) -> None:
        """Returns when every save that was started is on disk."""
        if self._opened is not None:
            with self._warning():
                self._opened.wait_until_finished()

    def require(self, step: int) -> None:
        """Waits until the checkpoint of a step is on disk.

        **Raises:** `UserError` where it could not be written.
        """
        self.wait()
        steps = self.steps()
        if step not in steps:
            newest = f"the newest is of step {steps[-1]}" if steps else "there is no other"
            raise UserError(
                f"{self.directory}: the checkpoint of step {step} could not be written; {newest}; "
                "free space or mend the folder, then the same command goes on from there"
            )

    def close(self) -> None:
        self.wait()  # takes what a save met, at which Orbax would stop half closed
        opened, self._opened = self._opened, None
        if opened is not None:
            with self._warning():
                opened.close()
            logging.get_absl_logger().removeFilter(self._no_traceback)

    @staticmethod
    def _no_traceback(record: logging_records.LogRecord) -> bool:
        """Orbax logs what its threads raise, and raises it again at the next call: once will do."""
        return not (record.exc_info and "orbax" in record.pathname)

    @contextlib.contextmanager
    def _warning(self, step: int | None = None) -> Iterator[None]:
        """What goes wrong with a save is a warning, wherever it comes out.

        Orbax's threads fail with errors of theirs, of their libraries and of loops that an earlier
        failure has closed, and raise them in whichever call is the next.
        """
        try:
            yield
        except Exception as error:
            logging.warning(
                "checkpoint%s could not be written to %s: %s; earlier ones are whole, training "
                "goes on; free space or mend the folder before the next save",
                "" if step is None else f" {step}",
                self.directory,
                first_line(error),
            )

    def restore(self, template: Any, which: str) -> tuple[Any, dict[str, Any]]:
        """Reads one checkpoint; changes nothing on disk.

        **Arguments:**

        - `template`: pytree with the state's structure; its leaves have `shape` and `dtype`.
        - `which`: `last`, `best` or a step. For `last` damaged ones are passed over, with a
          warning each.

        **Returns:** the state, of NumPy arrays, and the `info` it was saved with.

        **Raises:** `UserError` where there is none, or none that is whole.
        """
        return self._read_intact(which, functools.partial(self._read_state, template))

    def arrays(
        self, which: str, prefixes: tuple[str, ...]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays of one checkpoint by name, whatever its model is.

        **Arguments:**

        - `which`: as for `restore`.
        - `prefixes`: of the names to read, such as `params.model.`.

        **Returns:** the arrays, and the `info` they were saved with.

        **Raises:** as `restore`.
        """
        return self._read_intact(which, functools.partial(self._read_arrays, prefixes))

    def _read_intact(self, which: str, read: Callable[[int], T]) -> T:
        """`read` of the chosen step; for `last`, of the newest step that is not damaged."""
        if which == "last" and self.steps():
            return self._read_newest(read, self.steps())
        step = self._chosen(which)
        try:
            return read(step)
        except manifest.Damaged as error:
            path = self.directory / str(step)
            raise UserError(f"checkpoint {path} cannot be restored: {error}") from error

    def _chosen(self, which: str) -> int:
        steps = self.steps()
        if not steps:
            raise UserError(f"{self.directory}: no checkpoint; train first")
        step = self.best() if which == "best" else steps[-1] if which == "last" else _as_step(which)
        if step is None:
            step = steps[-1]
            logging.warning("no checkpoint has a score yet: the last one, step %d, is taken", step)
        if step not in steps:
            known = ", ".join(map(str, steps))
            raise UserError(f"checkpoint {which}: {self.directory} holds steps {known}")
        return step

    def _read_newest(self, read: Callable[[int], T], steps: list[int]) -> T:
        reasons = []
        for step in reversed(steps):
            try:
                found = read(step)
            except manifest.Damaged as error:
                reasons.append(f"{step}: {error}")
                continue
            for reason in reasons:
                logging.warning("checkpoint %s; going on from %d instead", reason, step)
            return found
        raise UserError(f"{self.directory}: no checkpoint can be restored", reasons)

    def set_aside(self, after: int) -> None:
        """Moves checkpoints newer than step `after`, which `restore` passed over, to `damaged/`.

        **Raises:** `UserError` where they cannot be moved.
        """
        target = self.directory / "damaged"
        for step in self.steps():
            if step > after:
                try:
                    target.mkdir(exist_ok=True)
                    shutil.rmtree(target / str(step), ignore_errors=True)
                    (self.directory / str(step)).rename(target / str(step))
                except OSError as error:
                    raise UserError(
                        f"{self.directory / str(step)}: damaged, and cannot be moved to {target}: "
                        f"{error.strerror}"
                    ) from error

    def _read_state(self, template: Any, step: int) -> tuple[Any, dict[str, Any]]:
        info = manifest.open_info(self.directory / str(step))
        wanted = _named_leaves(template)
        manifest.check_arrays(info["arrays"], wanted)
        leaves = list(self._whole(step, info, wanted).values())
        return jax.tree.unflatten(jax.tree.structure(template), leaves), info

    def _read_arrays(
        self, prefixes: tuple[str, ...], step: int
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        info = manifest.open_info(self.directory / str(step))
        wanted = {
            name: jax.ShapeDtypeStruct(saved["shape"], np.dtype(saved["dtype"]))
            for name, saved in info["arrays"].items()
            if name.startswith(prefixes)
        }
        return self._whole(step, info, wanted), info

    def _whole(
        self, step: int, info: dict[str, Any], wanted: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """The arrays of a step, each with the bytes that were saved; else `sealed.Damaged`."""
        arrays = {}
        for name, value in _iter_arrays(self.directory / str(step) / "state", wanted):
            if manifest.hash_of(value) != info["arrays"][name]["sha256"]:
                raise manifest.Damaged(f"the bytes of {name} are not those that were saved")
            arrays[name] = value
        return arrays


@dataclasses.dataclass(frozen=True)
class _Chosen(policies.PreservationPolicy):
    """Keeps one of the checkpoints.

    **Arguments:** `choose`: from all their steps to the one, or None.
    """

    choose: Callable[[Sequence[int]], int | None]

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> Sequence[bool]:
        chosen = self.choose([one.step for one in checkpoints])
        return [one.step == chosen for one in checkpoints]


class _Manager(ocp.CheckpointManager):
    """Orbax's, that leaves JAX's preemption service alone.

    At each save it would ask whether the run is to end, with the number of the step; the processes
    of a run agree on a number of updates (`parallel.agreed_to_stop`), and only one of them saves.
    """

    def reached_preemption(self, step: int) -> bool:
        return False


def _handlers() -> dict[str, ocp.CheckpointHandler]:
    """Uncompressed: of float weights 8% would be saved, by three times a save's processor time."""
    return {
        "state": ocp.PyTreeCheckpointHandler(use_compression=False, multiprocessing_options=_ALONE),
        "info": ocp.JsonCheckpointHandler(multiprocessing_options=_ALONE),
    }


def _as_step(which: str) -> int:
    try:
        return int(which)
    except ValueError:
        raise UserError(f"checkpoint {which!r}: must be best, last or a step") from None


def _named_leaves(tree: Any) -> dict[str, Any]:
    """`{"params.model.trunk.conv1.kernel": leaf, ...}` in the order of the tree's leaves."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def _iter_arrays(folder: pathlib.Path, wanted: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """One after the other: of several at once, those under way when one fails print tracebacks."""
    handler = ocp.PyTreeCheckpointHandler(multiprocessing_options=_ALONE)
    as_numpy = ocp.RestoreArgs(restore_type=np.ndarray)
    with ocp.Checkpointer(handler, multiprocessing_options=_ALONE) as reader:
        for name, leaf in wanted.items():
            request = ocp.args.PyTreeRestore(
                {name: np.empty(leaf.shape, leaf.dtype)},
                restore_args={name: as_numpy},
                partial_restore=True,
            )
            try:
                found = reader.restore(folder, args=request)
            except Exception as error:  # tensorstore, zarr, JSON and Orbax have each their own
                raise manifest.Damaged(
                    f"its arrays cannot be read ({first_line(error)})"
                ) from error
            yield name, np.asarray(found[name])
