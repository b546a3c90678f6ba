"""AffectNet's baselines in JAX: categorical, dimensional and facial action coding models of affect."""

__version__ = "0.1.0"
