"""The protocol's scores: arrays in, numbers out; no files, no model, no JAX (`stream` apart).

Every score is computed by a *scorer*: a function from weights of the faces [K, N] to named arrays
[K], K variants of the same test set at once. Weights of 1 give the score itself; 0 and 1, a drawn
subset (`skew`); whole numbers, a bootstrap sample (`intervals`). So a score is written once, what
does not depend on the weights (sorting, above all) is done once, and intervals cost a few passes.

What is undefined is NaN with a reason; a mean over classes says over how many it was taken.
"""
