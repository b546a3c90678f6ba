from __future__ import annotations

import pytest

from affect_jax.core import labels


def test_training_counts_sum_to_the_papers():
    assert sum(labels.TRAINING_COUNTS) == 287_651


def test_the_seven_class_protocol_drops_contempt_only():
    assert labels.classes(8) == (*labels.classes(7), "contempt")
    with pytest.raises(ValueError, match="7 or 8"):
        labels.classes(6)
