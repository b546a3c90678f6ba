"""Which face is seen when: a pure function of (labels, seed, epoch).

Nothing here has state, so nothing is saved: the step number is the position. One order is drawn
for the whole run, cut into global batches, and each process takes its slice of every batch; so
any number of processes sees the same batches, and a run goes on at any step.

The three strategies are those of Mollahosseini et al. 2017, section 5.1.1. Random numbers are
NumPy's PCG64, seeded by (seed, epoch, purpose).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.core.registry import Registry

SAMPLERS = Registry("sampling")
"""Name -> class; an instance is `sampler(labels, seed, epoch) -> rows int64 [M]`, in any order."""

Sampler = Callable[[np.ndarray, int, int], np.ndarray]

_CHOICE, _SHUFFLE = 0, 1  # purposes of random numbers


def generator(seed: int, epoch: int, purpose: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, epoch, purpose])))


@SAMPLERS.register("natural")
@dataclasses.dataclass(frozen=True)
class Natural:
    """Every face once, with a class or without."""

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        return np.arange(len(labels))


@SAMPLERS.register("down")
@dataclasses.dataclass(frozen=True)
class Down:
    """At most `cap` faces of each class, without replacement; faces without a class are left out.

    **Arguments:**

    - `cap`: faces of a class. The paper's 15,000 leaves 88,021 of AffectNet's 287,651.
    - `redraw`: draw anew each epoch; else every epoch has the faces of the first.
    """

    cap: int = 15_000
    redraw: bool = True

    def __post_init__(self) -> None:
        if self.cap < 1:
            raise UserError(f"sampling.cap = {self.cap}: must be 1 or more")

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        random = generator(seed, epoch if self.redraw else 0, _CHOICE)
        return _joined(
            random.choice(rows, self.cap, replace=False) if len(rows) > self.cap else rows
            for rows in _rows_by_class(labels)
        )


@SAMPLERS.register("up")
@dataclasses.dataclass(frozen=True)
class Up:
    """Every class repeated to the size of the largest; faces without a class are left out.

    A face of a class k times smaller comes floor(k) times, and a random subset of its class, drawn
    anew each epoch, once more: so every class has exactly the size of the largest.
    """

    def __call__(self, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
        random = generator(seed, epoch, _CHOICE)
        classes = _rows_by_class(labels)
        largest = max(map(len, classes), default=0)
        parts = []
        for rows in classes:
            times, rest = divmod(largest, len(rows))
            parts += [np.tile(rows, times), random.choice(rows, rest, replace=False)]
        return _joined(parts)


def _rows_by_class(labels: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(labels == label) for label in np.unique(labels[labels >= 0])]


def _joined(parts: Any) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int64), *parts])


def order(sampler: Sampler, labels: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows of an epoch, shuffled.

    **Arguments:**

    - `sampler`: an entry of `SAMPLERS`, created.
    - `labels`: int [N], class of each row, negative where there is none.
    - `seed`, `epoch`: 0 or more.

    **Returns:** int64 [M]; M is the same in every epoch.
    """
    return generator(seed, epoch, _SHUFFLE).permutation(sampler(labels, seed, epoch))


class TrainingRows:
    """The rows of every global batch of a run: `rows[step] -> int64 [B]`, for any step from 0.

    An epoch is floor(M / B) batches. The faces left over are others in every epoch, since the
    order is. Picklable; holds the order of the last epoch asked for.

    **Arguments:**

    - `labels`: int [N], negative where there is no class.
    - `eligible`: bool [N], faces that may be drawn (`batch.annotated`); None: all.

    **Raises:** `UserError` where an epoch has fewer faces than a batch.
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
        self.num_examples = len(sampler(self._labels, seed, 0))
        """Faces an epoch draws from the data: M."""
        if self.num_examples < batch_size:
            raise UserError(
                f"batch_size = {batch_size}: an epoch of this data has {self.num_examples} faces; "
                "take a smaller batch_size or more data"
            )
        self.steps_per_epoch = self.num_examples // batch_size
        self._order = functools.lru_cache(maxsize=2)(self._compute_order)

    def __getitem__(self, step: int) -> np.ndarray:
        epoch, place = position(step, self.steps_per_epoch)
        return self._order(epoch)[place * self._batch_size : (place + 1) * self._batch_size]

    def _compute_order(self, epoch: int) -> np.ndarray:
        return self._rows[order(self._sampler, self._labels, self._seed, epoch)]

    def __getstate__(self) -> dict:  # the cache stays behind: each worker fills its own
        return {name: value for name, value in vars(self).items() if name != "_order"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._order = functools.lru_cache(maxsize=2)(self._compute_order)


class EveryRow:
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


def position(step: int, steps_per_epoch: int) -> tuple[int, int]:
    """(epoch, batch within it) of a step."""
    return divmod(step, steps_per_epoch)


def process_rows(rows: np.ndarray, process: int, processes: int) -> np.ndarray:
    """A process's slice of a global batch: [B] -> [B / P], disjoint and in order.

    **Raises:** `UserError` where B is no multiple of P.
    """
    if len(rows) % processes:
        raise UserError(
            f"batch_size = {len(rows)}: must be a multiple of the {processes} processes"
        )
    size = len(rows) // processes
    return rows[process * size : (process + 1) * size]
