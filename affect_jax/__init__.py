"""AffectNet's baselines in JAX: categorical, dimensional and facial action models."""

__version__ = "0.1.0"
