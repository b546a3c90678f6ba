"""Scores of the evaluation protocol: functions of arrays, without models or JAX.

Every score is computed by a *scorer*: a function from face weights [K, N] to named arrays [K], for
K variants of the same test set at once. Weights of 1 give the score itself. `resampling` gives
weights of 0 and 1, which select a subset, and integer weights of a bootstrap sample. Each score is
therefore implemented once, work that does not depend on the weights (mainly sorting) is done once,
and intervals cost a few passes.

Undefined scores are NaN with a reason. A mean over classes reports how many classes it includes.
"""
