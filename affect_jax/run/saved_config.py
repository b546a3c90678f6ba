"""Config file with the config of a run: `--config=affect_jax/run/saved_config.py:WORKDIR`.

`main` uses it if flags change keys of the run in `--workdir` without a `--config`. Without a
workdir, it has the default values.
"""

from __future__ import annotations

from affect_jax.config import Config, defaults, from_dict
from affect_jax.run.workdir import Workdir


def get_config(workdir: str = "") -> Config:
    return from_dict(Workdir(workdir).load_config()) if workdir else defaults()
