"""AffectNet's labels and their counts."""

from __future__ import annotations

from affect_jax.core import labels


def test_training_counts_sum_to_the_number_of_the_paper():
    assert sum(labels.TRAINING_COUNTS) == 287_651


def test_seven_class_protocol_drops_only_contempt():
    assert labels.classes(8) == (*labels.classes(7), "contempt")
