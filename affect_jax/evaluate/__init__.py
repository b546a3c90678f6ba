"""Evaluation: predictions of a split, their scores, and Grad-CAM."""
