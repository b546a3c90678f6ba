"""AffectNet's baselines in JAX: categorical, dimensional and action-unit models.

from affect_jax import Predictor

Predictor.load("runs/weighted").predict(["party.jpg"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from affect_jax.core.version import __version__

if TYPE_CHECKING:
    from affect_jax.predict.predictor import Predictor

__all__ = ["Predictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Imports `Predictor` on first access, so that `import affect_jax` stays fast."""
    if name == "Predictor":
        from affect_jax.predict.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
