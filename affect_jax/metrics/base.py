"""What scores are, and what all of this package's modules use."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from affect_jax.core.errors import UserError

Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""From weights [K, N], 0 or more, to scores float64 [K] by name; NaN where undefined.

Weights are float64, or int32 where they are whole numbers, which is two to three times as fast.
"""

LARGEST = 1e100  # the square of a larger prediction may be infinite

CHUNK = (
    1 << 16
)  # weights at a time: what a core's cache holds; 4 times as many took 3 times as long


@dataclasses.dataclass(frozen=True)
class Scores:
    """Numbers by name.

    **Arguments:**

    - `values`: the scores; NaN where undefined.
    - `intervals`: 95 % confidence intervals, (low, high), where they were asked for.
    - `deviations`: standard deviations over the draws of skew-normalised scores.
    - `reasons`: why a score is undefined, for each NaN in `values`.
    - `counts`: for each mean, (number of classes or units it was taken over, number of all); for a
      skew-normalised score that some draws leave undefined, (draws it was taken over, draws).
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    deviations: dict[str, float] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def prefixed(self, prefix: str) -> Scores:
        """The same scores with `prefix.` before every name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Scores(
            **{
                field: {f"{prefix}.{name}": value for name, value in named.items()}
                for field, named in fields.items()
            }
        )

    @staticmethod
    def merge(parts: Sequence[Scores]) -> Scores:
        """All scores of several parts, in their order.

        **Raises:** `ValueError` where two parts have a score of the same name.
        """
        merged = Scores()
        for part in parts:
            twice = merged.values.keys() & part.values.keys()
            if twice:
                raise ValueError(f"two scores are called {min(twice)}")
            for field in dataclasses.fields(Scores):
                getattr(merged, field.name).update(getattr(part, field.name))
        return merged


def divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """The quotient; NaN where the denominator is 0."""
    zero = denominator == 0
    return np.where(zero, np.nan, numerator / np.where(zero, 1.0, denominator))


def mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Mean [K] over those of the arrays [K] that are defined; NaN where none is."""
    stacked = np.stack(arrays)
    defined = ~np.isnan(stacked)
    return divide(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))


def prefixed(named: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The same arrays with `prefix.` before every name."""
    return {f"{prefix}.{name}": array for name, array in named.items()}


def chunks(count: int, num_faces: int) -> Iterator[range]:
    """`range(count)` in pieces, so that memory does not grow with the number of draws."""
    size = max(1, CHUNK // max(num_faces, 1))
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def check_finite(name: str, array: np.ndarray, columns: Sequence[str]) -> None:
    """Raises `UserError` that says where a number is NaN, infinite or too large to be squared.

    **Arguments:**

    - `name`: what the array is called in the message.
    - `array`: float [N, len(columns)].
    """
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise ValueError(f"{name}: shape {array.shape}, not [N, {len(columns)}]")
    bad = np.argwhere(~(np.abs(array) < LARGEST))
    if len(bad):
        row, column = bad[0]
        raise UserError(
            f"{name}: face {row + 1} of {len(array)}, {columns[column]}: {array[row, column]}, "
            f"no usable number ({len(bad)} such in all)"
        )
