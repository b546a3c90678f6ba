"""Every key of a config is read by a run: a key that nothing reads is a broken promise."""

from __future__ import annotations

import pytest
from ml_collections import ConfigDict
from safetensors.numpy import save_file

from affect_jax.config import SPEC_KEYS, defaults, flatten, variant
from affect_jax.models.weight_mapping import flatten_by_name
from affect_jax.run.workdir import Workdir
from affect_jax.train.experiment import check_config, load_registries
from affect_jax.train.stages import train_stages
from tests.faults import tiny_config  # noqa: F401  # registers the trunk `tiny`
from tests.releases import shrink_config, write_release
from tests.trained_runs import create_weights

DURATIONS = ("duration", "stop_after", "evaluate_every", "checkpoint.every", "images_every")
WHOLE = (*SPEC_KEYS, *DURATIONS, "data.options")
"""Keys that are read as a whole: a registry entry refuses options it does not have."""

READS: set[str] = set()
PREFIXES: dict[int, str] = {}


class RecordingConfig(ConfigDict):
    """Records attributes that are read; reading all keys at once, as JSON does, is not recorded."""

    def __getattr__(self, name: str):
        if id(self) in PREFIXES:
            READS.add(PREFIXES[id(self)] + name)
        return super().__getattr__(name)


def record(config: ConfigDict, prefix: str = "") -> None:
    PREFIXES[id(config)] = prefix
    for key in config:
        if isinstance(config[key], ConfigDict) and prefix + key not in WHOLE:
            record(config[key], f"{prefix}{key}.")
    object.__setattr__(config, "__class__", RecordingConfig)


def top_level(key: str) -> str:
    """The key itself, or the one of `WHOLE` that it is a part of."""
    return next((whole for whole in WHOLE if f"{key}.".startswith(f"{whole}.")), key)


@pytest.fixture(scope="module")
def reads(tmp_path_factory) -> set[str]:
    """The keys that training, with its evaluation, reads."""
    folder = tmp_path_factory.mktemp("keys")
    write_release(folder / "release")
    load_registries()
    config = variant(defaults(), "affectnet")
    config.heads = ("expression", "action_units")
    shrink_config(config, folder / "release", folder / "data", duration={"steps": 2})
    config.trunk = {"name": "tiny"}
    weights = create_weights(config, seed=0)
    arrays = flatten_by_name(weights["params"]["model"], weights["batch_stats"])
    config.init_from = str(folder / "weights.safetensors")
    save_file(arrays, config.init_from)
    record(config)
    try:
        check_config(config, num_devices=2)
        assert train_stages(config, Workdir(folder / "run")) == 0
        return set(READS)
    finally:
        PREFIXES.clear()


@pytest.mark.slow
@pytest.mark.parametrize("key", sorted(set(map(top_level, flatten(defaults())))))
def test_a_run_reads_every_key(key, reads):
    assert key in reads
