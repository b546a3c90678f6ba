"""The files of a run: its folder, checkpoints and checkpoint manifests, and loading its network."""
