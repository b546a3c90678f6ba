"""Figures, by model: functions from a run to `Drawing`s, none where it has no such model."""
