"""ResNet18 for valence and arousal: squared error and concordance, half and half.

Concordance (CCC) is the score that papers since 2017 compare; alone it is blind to small errors of
scale early on, squared error is not.
Ours: needs AffectNet; on rendered faces see README.md.

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
