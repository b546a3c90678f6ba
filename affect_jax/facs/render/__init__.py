"""Renders faces from action units; `renderer` combines the modules for the parts of a face."""
