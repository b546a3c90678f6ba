"""Orbax checkpoints: saved asynchronously, verified when read; the newest and the best are kept.

Saving is atomic: Orbax renames a step's folder when it is complete. Orbax 0.12 does not detect
bytes that change afterwards, so the manifest of each checkpoint holds the SHA-256 of every array,
and `restore` verifies it.

A run resumes from its newest intact checkpoint, with a warning for each newer one that is damaged.
It starts from the beginning only if there is no checkpoint at all.
"""

from __future__ import annotations

import contextlib
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
from affect_jax.run import checkpoint_manifest, orbax_adapter
from affect_jax.run.checkpoint_manifest import DamagedCheckpointError
from affect_jax.run.workdir import Workdir

_STEP_FOLDER = re.compile("0|[1-9][0-9]*")  # name of a checkpoint's folder

T = TypeVar("T")


class Checkpoints:
    """The checkpoints of one run. A context manager, whose exit waits for the last save.

    **Arguments:**

    - `directory`: created when the first checkpoint is saved.
    - `keep_last`: number of newest checkpoints to keep.
    - `best_score`: name of the score whose best checkpoint is kept too; a leading `-` means that
      smaller is better.
    """

    def __init__(self, directory: pathlib.Path, *, keep_last: int = 2, best_score: str = ""):
        self.directory = directory.absolute()
        self._score_name = best_score.removeprefix("-")
        self._smaller_is_better = best_score.startswith("-")
        preservation_policies: list[policies.PreservationPolicy] = [policies.LatestN(keep_last)]
        if best_score:
            preservation_policies.append(orbax_adapter.PreserveOne(self.best_step))
        self._options = ocp.CheckpointManagerOptions(
            create=False,
            preservation_policy=policies.AnyPreservationPolicy(preservation_policies),
            cleanup_tmp_directories=True,  # of runs that were killed during a save
            async_options=ocp.AsyncOptions(timeout_secs=orbax_adapter.NO_TIMEOUT_SECONDS),
            multiprocessing_options=orbax_adapter.MAIN_PROCESS_ONLY,
        )
        self._open_manager: orbax_adapter.CheckpointManager | None = None
        self._cached_scores: dict[int, dict[str, float]] = {}  # by step; saves may be pending

    @classmethod
    def from_config(cls, config: Config, workdir: Workdir) -> Checkpoints:
        """Opens the checkpoints of the run in `workdir`."""
        return cls(
            workdir.path / "checkpoints",
            keep_last=config.checkpoint.keep_last,
            best_score=config.checkpoint.best,
        )

    @property
    def _manager(self) -> orbax_adapter.CheckpointManager:
        if self._open_manager is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            logging.get_absl_logger().addFilter(self._drop_traceback)
            self._open_manager = orbax_adapter.CheckpointManager(
                self.directory, options=self._options, item_handlers=orbax_adapter.create_handlers()
            )
        return self._open_manager

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rank(self, scores: Any) -> float:
        """Returns a number that is larger for better scores; missing and NaN scores are worst."""
        value = scores[self._score_name] if self._score_name in scores else None
        if value is None or np.isnan(value):
            return -np.inf
        return -value if self._smaller_is_better else value

    def all_steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, ascending.

        **Raises:** `UserError` if the path is not a folder, to avoid a start from scratch.
        """
        if not self.directory.is_dir():
            if os.path.lexists(self.directory):
                raise UserError(f"{self.directory}: not a folder, or a link to a missing folder")
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if _STEP_FOLDER.fullmatch(name))

    def best_step(self, steps: Sequence[int] | None = None) -> int | None:
        """Returns the step with the best score among `steps` (default: all); None if unscored."""
        steps = self.all_steps() if steps is None else steps
        scored = [(step, self._read_scores(step)) for step in steps]
        ranked = [(self._rank(scores), step) for step, scores in scored if scores]
        return max(ranked)[1] if ranked else None

    def _read_scores(self, step: int) -> dict[str, float]:
        if step not in self._cached_scores:
            try:
                info = checkpoint_manifest.read_manifest(self.directory / str(step))
            except DamagedCheckpointError:
                return {}
            self._cached_scores[step] = info["scores"] if "scores" in info else {}
        return self._cached_scores[step]

    def save(
        self, step: int, state: Any, info: dict[str, Any], scores: dict[str, float] | None = None
    ) -> None:
        """Starts to write a checkpoint and returns. If the save fails, a warning is logged.

        **Arguments:**

        - `state`: pytree of NumPy arrays, which must not change afterwards.
        - `info`: JSON-serialisable metadata: epoch, config, hash of the data, machine.
        - `scores`: scores of this state, if it was evaluated.
        """
        leaves = _named_leaves(state)
        # Scores are not in Orbax's file of metrics: it has no checksum, and damage stops Orbax.
        self._cached_scores[step] = {name: float(value) for name, value in (scores or {}).items()}
        fields = {
            "format": checkpoint_manifest.FORMAT_VERSION,
            "step": step,
            "scores": self._cached_scores[step],
        }
        fields |= {"arrays": checkpoint_manifest.describe_arrays(leaves), **info}
        document = checkpoint_manifest.build_manifest(fields)
        self.wait()  # so that the failure of an earlier save is not attributed to this one
        with self._log_failure(step):
            self._check_free_space(sum(leaf.nbytes for leaf in leaves.values()))
            self._manager.save(
                step,
                args=ocp.args.Composite(
                    state=ocp.args.PyTreeSave(leaves), info=ocp.args.JsonSave(document)
                ),
            )

    def _check_free_space(self, needed_bytes: int) -> None:
        """Raises `OSError` before Orbax fills the disk with a checkpoint that does not fit."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=self.directory):
            free_bytes = shutil.disk_usage(self.directory).free
        if free_bytes < needed_bytes:
            message = f"it needs {needed_bytes >> 20} MiB, {free_bytes >> 20} MiB are free"
            raise OSError(errno.ENOSPC, message)

    def wait(self) -> None:
        """Waits until every started save is on disk."""
        if self._open_manager is not None:
            with self._log_failure():
                self._open_manager.wait_until_finished()

    def ensure_saved(self, step: int) -> None:
        """Waits until the checkpoint of a step is on disk.

        **Raises:** `UserError` if it could not be written.
        """
        self.wait()
        steps = self.all_steps()
        if step not in steps:
            newest = f"the newest is step {steps[-1]}" if steps else "there is no earlier one"
            raise UserError(
                f"{self.directory}: the checkpoint of step {step} could not be written; {newest}; "
                "free disk space or fix the folder, then rerun the same command to resume"
            )

    def close(self) -> None:
        self.wait()  # handles the error of a save, which would interrupt Orbax's `close`
        manager, self._open_manager = self._open_manager, None
        if manager is not None:
            with self._log_failure():
                manager.close()
            logging.get_absl_logger().removeFilter(self._drop_traceback)

    @staticmethod
    def _drop_traceback(record: logging_records.LogRecord) -> bool:
        """Drops tracebacks that Orbax's threads log, because Orbax raises the same errors later."""
        return not (record.exc_info and "orbax" in record.pathname)

    @contextlib.contextmanager
    def _log_failure(self, step: int | None = None) -> Iterator[None]:
        """Logs the failure of a save as a warning.

        Orbax raises an error of its threads in its next call of any kind. The error may come from
        Orbax, its libraries or an event loop that an earlier failure has closed.
        """
        try:
            yield
        except Exception as error:
            logging.warning(
                "checkpoint%s could not be written to %s: %s; earlier checkpoints are intact and "
                "training continues; free disk space or fix the folder before the next save",
                "" if step is None else f" {step}",
                self.directory,
                first_line(error),
            )

    def restore(self, template: Any, checkpoint: str) -> tuple[Any, dict[str, Any]]:
        """Reads one checkpoint and changes nothing on disk.

        **Arguments:**

        - `template`: pytree with the structure of the state; its leaves have `shape` and `dtype`.
        - `checkpoint`: `last`, `best` (the last if none has a score) or a step. For `last`, damaged
          checkpoints are skipped with a warning.

        **Returns:** the state, a pytree of NumPy arrays, and the manifest.

        **Raises:** `UserError` if there is no such checkpoint or it is damaged (`last`: all are).
        """
        return self._read_intact(checkpoint, functools.partial(self._read_step_state, template))

    def read_arrays(
        self, checkpoint: str, prefixes: tuple[str, ...]
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reads arrays of one checkpoint by name, without a template of the state.

        **Arguments:**

        - `checkpoint`: as for `restore`.
        - `prefixes`: prefixes of the names to read, such as `params.model.`.

        **Returns:** the arrays by name, and the manifest.

        **Raises:** as `restore`.
        """
        return self._read_intact(checkpoint, functools.partial(self._read_step_arrays, prefixes))

    def _read_intact(self, checkpoint: str, read: Callable[[int], T]) -> T:
        """Calls `read` with the selected step; for `last`, with the newest intact step."""
        if checkpoint == "last" and self.all_steps():
            return self._read_newest(read, self.all_steps())
        step = self.resolve_step(checkpoint)
        try:
            return read(step)
        except DamagedCheckpointError as error:
            path = self.directory / str(step)
            raise UserError(f"checkpoint {path} cannot be restored: {error}") from error

    def resolve_step(self, checkpoint: str) -> int:
        """Returns the step of `best`, `last` or a step. `best` without scores is the last one.

        **Raises:** `UserError` if there is no such checkpoint.
        """
        steps = self.all_steps()
        if not steps:
            raise UserError(f"{self.directory}: no checkpoint; train first")
        if checkpoint == "last":
            return steps[-1]
        step = self.best_step() if checkpoint == "best" else _parse_step(checkpoint)
        if step is None:
            step = steps[-1]
            logging.warning("no checkpoint has a score yet; using the last one, step %d", step)
        if step not in steps:
            available = ", ".join(map(str, steps))
            raise UserError(f"checkpoint {checkpoint}: {self.directory} holds steps {available}")
        return step

    def _read_newest(self, read: Callable[[int], T], steps: list[int]) -> T:
        reasons = []
        for step in reversed(steps):
            try:
                content = read(step)
            except DamagedCheckpointError as error:
                reasons.append(f"{step}: {error}")
                continue
            for reason in reasons:
                logging.warning("checkpoint %s; using checkpoint %d instead", reason, step)
            return content
        raise UserError(f"{self.directory}: no checkpoint can be restored", reasons)

    def quarantine(self, newer_than: int) -> None:
        """Moves checkpoints newer than a step, which `restore` skipped, to `damaged/`.

        **Raises:** `UserError` if they cannot be moved.
        """
        target = self.directory / "damaged"
        for step in self.all_steps():
            if step > newer_than:
                try:
                    target.mkdir(exist_ok=True)
                    shutil.rmtree(target / str(step), ignore_errors=True)
                    (self.directory / str(step)).rename(target / str(step))
                except OSError as error:
                    raise UserError(
                        f"{self.directory / str(step)}: damaged, and cannot be moved to {target}: "
                        f"{error.strerror}"
                    ) from error

    def _read_step_state(self, template: Any, step: int) -> tuple[Any, dict[str, Any]]:
        info = checkpoint_manifest.read_manifest(self.directory / str(step))
        expected = _named_leaves(template)
        checkpoint_manifest.check_arrays(info["arrays"], expected)
        leaves = list(self._read_verified(step, info, expected).values())
        return jax.tree.unflatten(jax.tree.structure(template), leaves), info

    def _read_step_arrays(
        self, prefixes: tuple[str, ...], step: int
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        info = checkpoint_manifest.read_manifest(self.directory / str(step))
        expected = {
            name: jax.ShapeDtypeStruct(saved["shape"], np.dtype(saved["dtype"]))
            for name, saved in info["arrays"].items()
            if name.startswith(prefixes)
        }
        return self._read_verified(step, info, expected), info

    def _read_verified(
        self, step: int, info: dict[str, Any], expected: dict[str, Any]
    ) -> dict[str, np.ndarray]:
        """Reads arrays of a step and raises `DamagedCheckpointError` if a hash differs."""
        arrays = {}
        for name, value in orbax_adapter.iterate_arrays(
            self.directory / str(step) / "state", expected
        ):
            if checkpoint_manifest.hash_array(value) != info["arrays"][name]["sha256"]:
                raise DamagedCheckpointError(f"the hash of {name} does not match")
            arrays[name] = value
        return arrays


def _parse_step(checkpoint: str) -> int:
    try:
        return int(checkpoint)
    except ValueError:
        raise UserError(f"checkpoint {checkpoint!r}: must be best, last or a step") from None


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Returns `{"params.model.trunk.conv1.kernel": leaf, ...}` in the order of the leaves."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
