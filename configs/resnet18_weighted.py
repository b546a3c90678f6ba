"""ResNet18 with the weighted loss: the second trunk of the 2018 summary (its ResNet18 figures).

Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/resnet18_weighted.py --workdir=runs/resnet18 \
        --config.data.manual_dir=/path/to/AffectNet
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "resnet18"}
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression"},)
    return variant(config, dataset)
