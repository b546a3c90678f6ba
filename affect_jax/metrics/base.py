"""The `Scores` container, the `Scorer` type and helpers that all score modules share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from affect_jax.core.errors import UserError

Scorer = Callable[[np.ndarray], dict[str, np.ndarray]]
"""Maps non-negative weights [K, N] to named scores, float64 [K]; undefined scores are NaN.

Weights are float64 or int32. Integer weights are two to three times as fast.
"""

MAX_MAGNITUDE = 1e100  # the square of a larger prediction may be infinite

# Weights per chunk; they fit into a core's cache. Chunks 4 times as large take 3 times as long.
CHUNK_SIZE = 1 << 16


@dataclasses.dataclass(frozen=True)
class Scores:
    """Named scores with intervals, deviations and reasons.

    **Arguments:**

    - `values`: the scores; undefined scores are NaN.
    - `intervals`: 95 % confidence intervals, (low, high), if they were requested.
    - `deviations`: standard deviations of skew-normalised scores over the draws.
    - `reasons`: for each NaN in `values`, why the score is undefined.
    - `counts`: for each mean, (number of classes or units averaged, number of all classes or
      units); for a skew-normalised score that is undefined in some draws, (draws averaged, draws).
    """

    values: dict[str, float] = dataclasses.field(default_factory=dict)
    intervals: dict[str, tuple[float, float]] = dataclasses.field(default_factory=dict)
    deviations: dict[str, float] = dataclasses.field(default_factory=dict)
    reasons: dict[str, str] = dataclasses.field(default_factory=dict)
    counts: dict[str, tuple[int, int]] = dataclasses.field(default_factory=dict)

    def with_prefix(self, prefix: str) -> Scores:
        """Returns the same scores with `prefix.` before every name."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Scores(
            **{
                field: {f"{prefix}.{name}": value for name, value in mapping.items()}
                for field, mapping in fields.items()
            }
        )

    @staticmethod
    def merge(parts: Sequence[Scores]) -> Scores:
        """Merges the scores of all parts, in their order.

        **Raises:** `ValueError` if two parts have a score of the same name.
        """
        merged = Scores()
        for part in parts:
            repeated = merged.values.keys() & part.values.keys()
            if repeated:
                raise ValueError(f"duplicate score name: {min(repeated)}")
            for field in dataclasses.fields(Scores):
                getattr(merged, field.name).update(getattr(part, field.name))
        return merged


def divide_or_nan(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, NaN where the denominator is 0."""
    zero = denominator == 0
    return np.where(zero, np.nan, numerator / np.where(zero, 1.0, denominator))


def nanmean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean [K] over arrays [K], ignoring NaN; NaN if all values are NaN."""
    stacked = np.stack(arrays)
    defined = ~np.isnan(stacked)
    return divide_or_nan(np.where(defined, stacked, 0.0).sum(axis=0), defined.sum(axis=0))


def add_prefix(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Returns the same arrays with `prefix.` before every name."""
    return {f"{prefix}.{name}": array for name, array in arrays.items()}


def split_into_chunks(count: int, num_faces: int) -> Iterator[range]:
    """Splits `range(count)` into chunks, so that memory use does not grow with `count`."""
    size = max(1, CHUNK_SIZE // max(num_faces, 1))
    for start in range(0, count, size):
        yield range(start, min(start + size, count))


def check_finite(name: str, array: np.ndarray, columns: Sequence[str]) -> None:
    """Checks that no number is NaN, infinite or too large to be squared.

    **Arguments:**

    - `name`: the array's name in the message.
    - `array`: float [N, len(columns)].

    **Raises:** `UserError` that names the first invalid number's face and column.
    """
    if array.ndim != 2 or array.shape[1] != len(columns):
        raise ValueError(f"{name}: expected shape [N, {len(columns)}], got {array.shape}")
    invalid = np.argwhere(~(np.abs(array) < MAX_MAGNITUDE))
    if len(invalid):
        row, column = invalid[0]
        raise UserError(
            f"{name}: face {row + 1} of {len(array)}, {columns[column]}: {array[row, column]}, "
            f"not a usable number ({len(invalid)} invalid numbers in total)"
        )
