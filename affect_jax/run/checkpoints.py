"""Orbax checkpoints: saved asynchronously, verified when read; the newest and the best are kept.

Saving is atomic: Orbax renames a step's folder when it is complete. Older checkpoints are deleted
afterwards, before the next save. Orbax does not detect bytes that change later, so the manifest of
each checkpoint holds the SHA-256 of every array and one of its own, and reading verifies them.

A run resumes from its newest intact checkpoint, with a warning for each newer one that is damaged.
It starts from the beginning only if there is no checkpoint at all.
"""

from __future__ import annotations

import contextlib
import errno
import logging as logging_records
import os
import pathlib
import shutil
from collections.abc import Collection, Iterator
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
import tensorstore
from absl import logging

from affect_jax.config import Config
from affect_jax.core.errors import UserError, first_line
from affect_jax.run.manifest import (
    FORMAT_VERSION,
    DamagedCheckpointError,
    build_manifest,
    check_arrays,
    describe_arrays,
    hash_array,
    read_manifest,
)
from affect_jax.run.workdir import Workdir

MAIN_PROCESS_ONLY = ocp.options.MultiprocessingOptions(
    primary_host=0, active_processes={0}, barrier_sync_key_prefix="affect_jax"
)
"""Only the main process writes and reads checkpoints: the state is replicated on all devices."""


class Checkpoints:
    """The checkpoints of one run. A context manager, whose exit waits for the last save.

    **Arguments:**

    - `directory`: created when the first checkpoint is saved; its parent must exist.
    - `keep_last`: number of newest checkpoints to keep.
    - `best_score`: name of the score whose best checkpoint is kept too; a leading `-` means that
      smaller is better.
    """

    def __init__(self, directory: pathlib.Path, *, keep_last: int = 2, best_score: str = ""):
        self.directory = directory.absolute()
        self._keep_last, self._best_score = keep_last, best_score
        self._pending: ocp.AsyncCheckpointer | None = None  # it writes the last save

    @classmethod
    def from_config(cls, config: Config, workdir: Workdir) -> Checkpoints:
        """Opens the checkpoints of the run in `workdir`."""
        return cls(
            workdir.path / "checkpoints",
            keep_last=config.checkpoint.keep_last,
            best_score=config.checkpoint.best,
        )

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *_: object) -> None:
        self.wait()

    def all_steps(self) -> list[int]:
        """Returns the steps of all complete checkpoints, ascending.

        **Raises:** `OSError` for a link to a missing folder, to avoid a start from scratch.
        """
        if not os.path.lexists(self.directory):
            return []
        names = [path.name for path in self.directory.iterdir()]
        return sorted(int(name) for name in names if name.isascii() and name.isdigit())

    def best_step(self) -> int | None:
        """Returns the step with the best score; None if no checkpoint has one.

        Damaged checkpoints and scores of NaN do not count.
        """
        name, sign = self._best_score.removeprefix("-"), -1 if self._best_score[:1] == "-" else 1
        ranked = []
        for step in self.all_steps():
            with contextlib.suppress(DamagedCheckpointError):
                score = read_manifest(self.directory / str(step)).get("scores", {}).get(name)
                if score is not None and not np.isnan(score):
                    ranked.append((sign * score, step))
        return max(ranked)[1] if ranked else None

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
        document = build_manifest(
            {
                "format": FORMAT_VERSION,
                "step": step,
                # Not in Orbax's file of metrics: it has no checksum, and damage stops Orbax.
                "scores": {name: float(value) for name, value in (scores or {}).items()},
                "arrays": describe_arrays(leaves),
                **info,
            }
        )
        self.wait()  # so that the failure of an earlier save is not attributed to this one
        with self._log_failure(step):
            self.directory.mkdir(exist_ok=True)
            for partial in self.directory.glob("*.orbax-checkpoint-tmp*"):
                shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed during a save
            needed_bytes = sum(leaf.nbytes for leaf in leaves.values())
            free_bytes = shutil.disk_usage(self.directory).free
            if free_bytes < needed_bytes:  # Orbax would fill the disk
                message = f"it needs {needed_bytes >> 20} MiB, {free_bytes >> 20} MiB are free"
                raise OSError(errno.ENOSPC, message)
            checkpointer = _create_checkpointer()
            items = ocp.args.Composite(
                state=ocp.args.PyTreeSave(leaves), info=ocp.args.JsonSave(document)
            )
            checkpointer.save(self.directory / str(step), items)
            self._pending = checkpointer

    def wait(self) -> None:
        """Waits until every started save is on disk, and deletes the checkpoints not to keep."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        with self._log_failure():
            pending.close()
        with contextlib.suppress(OSError):  # after the next save it is tried again
            best = self.best_step() if self._best_score else None
            for step in self.all_steps()[: -self._keep_last]:
                if step != best:
                    shutil.rmtree(self.directory / str(step), ignore_errors=True)

    def ensure_saved(self, step: int) -> None:
        """Waits until the checkpoint of a step is on disk.

        **Raises:** `UserError` if it could not be written.
        """
        self.wait()
        if step not in self.all_steps():
            raise UserError(
                f"{self.directory}: the checkpoint of step {step} could not be written; free disk "
                "space or fix the folder, then rerun the same command to resume"
            )

    @contextlib.contextmanager
    def _log_failure(self, step: int | None = None) -> Iterator[None]:
        """Logs the failure of a save, which Orbax or any of its libraries may raise."""
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

    def restore(
        self, template: Any, checkpoint: str, prefixes: tuple[str, ...] = ("",)
    ) -> tuple[Any, dict[str, Any]]:
        """Reads one checkpoint and changes nothing on disk.

        **Arguments:**

        - `template`: pytree with the structure of the state; its leaves have `shape` and `dtype`.
        - `checkpoint`: `last`, `best` or a step. For `last`, damaged checkpoints are skipped with a
          warning. `best` is the last, with a warning, if no checkpoint has a score.
        - `prefixes`: the template has all arrays whose names begin with one of these prefixes, such
          as `params.model.`; the others are not read.

        **Returns:** the state, a pytree of NumPy arrays, and the manifest.

        **Raises:** `UserError` if there is no such checkpoint or it is damaged (`last`: all are).
        """
        expected, problems = _named_leaves(template), []
        for step in self._candidates(checkpoint):
            try:
                folder = self.directory / str(step)
                info = read_manifest(folder)
                saved = {k: v for k, v in info["arrays"].items() if k.startswith(prefixes)}
                check_arrays(saved, expected)
                arrays = _read_verified(folder / "state", saved, expected)
            except DamagedCheckpointError as error:
                problems.append(f"{step}: {error}")
                continue
            for problem in problems:
                logging.warning("checkpoint %s; using checkpoint %d instead", problem, step)
            return jax.tree.unflatten(jax.tree.structure(template), list(arrays.values())), info
        name = "no checkpoint can" if checkpoint == "last" else f"checkpoint {checkpoint} cannot"
        raise UserError(f"{self.directory}: {name} be restored", problems)

    def _candidates(self, checkpoint: str) -> list[int]:
        """Steps of the checkpoints that `best`, `last` or a step may mean, the first choice first.

        **Raises:** `UserError` if there is no such checkpoint.
        """
        steps = self.all_steps()
        if not steps:
            raise UserError(f"{self.directory}: no checkpoint; train first")
        if checkpoint == "best":
            best = self.best_step()
            if best is not None:
                return [best]
            if len(steps) > 1:
                logging.warning(
                    "no checkpoint has a score yet; using the last one, step %d", steps[-1]
                )
        if checkpoint in ("best", "last"):
            return steps[::-1]
        if checkpoint not in map(str, steps):
            raise UserError(
                f"checkpoint {checkpoint!r}: must be best, last or a step; {self.directory} holds "
                f"steps {', '.join(map(str, steps))}"
            )
        return [int(checkpoint)]

    def quarantine(self, newer_than: int) -> None:
        """Moves checkpoints newer than a step, which `restore` skipped, to `damaged/`."""
        target = self.directory / "damaged"
        for step in self.all_steps():
            if step > newer_than:
                target.mkdir(exist_ok=True)
                shutil.rmtree(target / str(step), ignore_errors=True)
                (self.directory / str(step)).rename(target / str(step))


def _create_checkpointer() -> ocp.AsyncCheckpointer:
    logging.get_absl_logger().addFilter(_drop_traceback)
    options: dict[str, Any] = {"multiprocessing_options": MAIN_PROCESS_ONLY}
    # Without compression, which saves only 8% and takes 3 times the CPU time.
    state = ocp.PyTreeCheckpointHandler(use_compression=False, **options)
    handler = ocp.CompositeCheckpointHandler(
        composite_options=ocp.CompositeOptions(**options),  # else it waits for all processes
        state=state,
        info=ocp.JsonCheckpointHandler(**options),
    )
    return ocp.AsyncCheckpointer(handler, **options)


def _drop_traceback(record: logging_records.LogRecord) -> bool:
    """Drops tracebacks that Orbax's threads log, because Orbax raises the same errors later."""
    return not (record.exc_info and "orbax" in record.pathname)


def _read_verified(
    folder: pathlib.Path, saved: dict[str, Any], names: Collection[str]
) -> dict[str, np.ndarray]:
    """Reads arrays of a checkpoint with TensorStore, on which Orbax is built.

    Orbax prints a traceback for each read that fails, unless arrays are read one at a time, which
    takes 300 times as long.

    **Raises:** `DamagedCheckpointError` if they cannot be read, or if a hash differs.
    """
    base, context = {"driver": "file", "path": f"{folder}/"}, tensorstore.Context()

    def start_reading(name: str) -> Any:
        store = {"driver": "ocdbt", "base": base, "path": f"{name}/"}
        return tensorstore.open({"driver": "zarr", "kvstore": store}, read=True, context=context)

    try:
        opened = {name: start_reading(name) for name in names}
        arrays = {name: array.result().read().result() for name, array in opened.items()}
    except Exception as error:  # of several classes
        raise DamagedCheckpointError(f"its arrays cannot be read ({first_line(error)})") from error
    for name, array in arrays.items():
        if hash_array(array) != saved[name]["sha256"]:
            raise DamagedCheckpointError(f"the hash of {name} does not match")
    return arrays


def _named_leaves(tree: Any) -> dict[str, Any]:
    """Returns `{"params.model.trunk.conv1.kernel": leaf, ...}` in the order of the leaves."""
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}
