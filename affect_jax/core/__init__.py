"""Modules that every package uses: errors, registries, labels, batches, devices, random keys."""
