"""The TensorBoard image of the confusion matrix."""

from __future__ import annotations

import dataclasses

import numpy as np

from affect_jax.metrics.predictions import Predictions
from affect_jax.train.tensorboard_images import confusion_image


def test_confusion_image_has_the_fractions_of_annotated_faces():
    table = Predictions(
        id=np.array(["a", "b"]),
        classes=("neutral", "contempt"),
        expression=np.array([1, -1]),
        probabilities=np.array([[0.25, 0.75], [0.5, 0.5]]),
    )
    image = confusion_image(table)
    assert image.shape == (840, 840, 3) and image.std() > 5
    mistaken = dataclasses.replace(table, expression=np.array([0, -1]))
    assert (confusion_image(mistaken) != image).any()
