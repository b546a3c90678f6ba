"""Prediction on images, videos and webcams with a trained network.

The predictions of an evaluated data split are in `affect_jax.metrics.predictions`.
"""
