"""Order of the training faces: a pure function of (labels, seed, epoch).

There is no state and nothing to save: the step number is the position. The order of an epoch is
split into global batches, and each process takes its slice of every batch. Any number of processes
therefore sees the same batches, and a run can resume at any step.

The three strategies are those of Mollahosseini et al. 2017, section 5.1.1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry

SAMPLERS = Registry("sampling")
"""Name -> class; an instance is a `Sampler`: (labels, seed, epoch) -> rows int64 [M], unordered."""

Sampler = Callable[[np.ndarray, int, int], np.ndarray]

_SUBSET, _SHUFFLE, _SHARE = 0, 1, 2  # purposes of random numbers


def _create_generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, purpose])))


@SAMPLERS.register("natural")
@dataclasses.dataclass(frozen=True)
class NoResampling:
    """No resampling: every face once, with or without a class."""

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return np.arange(len(labels))


@SAMPLERS.register("down")
@dataclasses.dataclass(frozen=True)
class DownSampling:
    """At most `cap` faces per class, without replacement; faces without a class are excluded.

    **Arguments:**

    - `cap`: maximum number of faces per class. The paper's 15,000 leaves 88,021 of AffectNet's
      287,651.
    - `redraw`: draw another subset in each epoch; if False, every epoch has the same faces.
    """

    cap: int = 15_000
    redraw: bool = True

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise UserError(f"sampling.cap = {self.cap}: must be 1 or more")

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        random = _create_generator(seed, epoch if self.redraw else 0, _SUBSET)
        return _concatenate(
            random.choice(rows, self.cap, replace=False) if len(rows) > self.cap else rows
            for rows in _rows_by_class(labels)
        )


@SAMPLERS.register("up")
@dataclasses.dataclass(frozen=True)
class UpSampling:
    """Repeats every class to the size of the largest; faces without a class are excluded.

    In a class k times smaller, each face is repeated floor(k) times, and a random subset, drawn in
    each epoch, once more. Every class then has exactly the size of the largest.
    """

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        random = _create_generator(seed, epoch, _SUBSET)
        classes = _rows_by_class(labels)
        class_size = max(map(len, classes), default=0)
        return _concatenate(_repeat(rows, class_size, random) for rows in classes)


@dataclasses.dataclass(frozen=True, eq=False)
class ShareSampling:
    """Samples each part of a mixture, then repeats or drops rows to give the part its share.

    **Arguments:**

    - `parts`: [N], the part of each row.
    - `shares`: part -> its share of the rows, with sum 1.
    """

    sampler: Sampler
    parts: np.ndarray
    shares: Mapping[str, float]

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        members_by_part = {}
        for part in self.shares:
            rows = np.flatnonzero(self.parts == part)
            members_by_part[part] = rows[self.sampler(labels[rows], seed, epoch)]
            if not len(members_by_part[part]):
                raise UserError(
                    f"data.options.parts.{part}: has no face with labels of config.heads, or "
                    "config.sampling draws none"
                )
        total = sum(map(len, members_by_part.values()))
        random = _create_generator(seed, epoch, _SHARE)
        return _concatenate(
            _repeat(members, round(self.shares[part] * total), random)
            for part, members in members_by_part.items()
        )


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]


def _repeat(rows: np.ndarray, count: int, random: np.random.Generator) -> np.ndarray:
    """Repeats rows equally often to a number of `count`; a random subset occurs once more."""
    repeats, remainder = divmod(count, len(rows))
    return np.concatenate([np.tile(rows, repeats), random.choice(rows, remainder, replace=False)])


def _concatenate(parts: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def shuffle_epoch(sampler: Sampler, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Draws and shuffles the rows of an epoch, int64 [M]; M is the same in every epoch."""
    return _create_generator(seed, epoch, _SHUFFLE).permutation(sampler(labels, seed, epoch))


class TrainingRows:
    """The rows of every global batch of a run: `rows[step] -> int64 [B]`, for any step from 0.

    An epoch has floor(M / B) batches. The remaining faces are dropped; they differ from epoch to
    epoch, as the order does. Picklable; caches the order of the last two epochs.

    **Arguments:**

    - `labels`: int [N], negative if a face has no class.
    - `eligible`: bool [N], faces that may be drawn (`core.batch.has_target`); None: all.

    **Raises:** `UserError` if an epoch has fewer faces than a batch.
    """

    def __init__(
        self,
        sampler: Sampler,
        labels: np.ndarray,
        *,
        seed: int,
        batch_size: int,
        eligible: np.ndarray | None = None,
    ):
        self._sampler, self._seed, self._batch_size = sampler, seed, batch_size
        self._rows = np.arange(len(labels)) if eligible is None else np.flatnonzero(eligible)
        self._labels = np.asarray(labels)[self._rows]
        num_drawn = len(sampler(self._labels, seed, 0))
        if num_drawn < batch_size:
            raise UserError(
                f"batch_size = {batch_size}: an epoch of this data has {num_drawn} faces; use a "
                "smaller batch_size or more data"
            )
        self.steps_per_epoch = num_drawn // batch_size
        self._orders: tuple[tuple[int, np.ndarray], ...] = ()  # of the last two epochs

    def __getitem__(self, step: int) -> np.ndarray:
        epoch, batch = divmod(step, self.steps_per_epoch)
        order = dict(self._orders).get(epoch)
        if order is None:
            order = self._rows[shuffle_epoch(self._sampler, self._labels, self._seed, epoch)]
            self._orders = (*self._orders[-1:], (epoch, order))
        return order[batch * self._batch_size : (batch + 1) * self._batch_size]


class SequentialRows:
    """Rows `first` to `stop` once, in order: `rows[step] -> int64 [B]`; -1 pads the last batch."""

    def __init__(self, stop: int, batch_size: int, first: int = 0):
        self._first, self._stop, self._batch_size = first, stop, batch_size

    def __len__(self) -> int:
        return max(0, -(-(self._stop - self._first) // self._batch_size))

    def __getitem__(self, step: int) -> np.ndarray:
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        rows = self._first + np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        return np.where(rows < self._stop, rows, -1)


Rows = TrainingRows | SequentialRows


def select_process_rows(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
    """Selects a process's slice of a global batch: [B] -> [B / P], disjoint and in order.

    **Raises:** `ValueError` if B is not a multiple of P.
    """
    return np.split(rows, processes)[process]
