"""Figures by model: functions from a run to `FigureSpec`s, empty if the run lacks the model."""
