"""ResNet18 for valence and arousal: squared error and concordance with equal weights.

Papers since 2017 compare concordance (CCC). On its own it is insensitive to small errors of scale
early in training; squared error is not.
Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/resnet18_dimensional.py \
        --workdir=runs/dimensional --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/resnet18_dimensional.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "resnet18"}
    config.heads = ("valence_arousal",)
    config.losses = (
        {"name": "ccc", "head": "valence_arousal", "weight": 0.5},
        {"name": "squared_error", "head": "valence_arousal", "weight": 0.5},
    )
    config.checkpoint.best = "dimensional.mean.ccc"
    return variant(config, dataset)
