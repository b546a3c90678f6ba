"""Prediction on images, videos and webcams with a trained network.

- `predictor`: the Python class `Predictor`: images in, predicted faces out.
- `detection`: face detectors.
- `inputs`: which images and videos to read, and the frames of videos.
- `outputs`, `overlay`: the output table, and drawings of predictions on images.
- `__main__`: the command line.

The predictions of an evaluated data split are in `affect_jax.metrics.predictions`.
"""
