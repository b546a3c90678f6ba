"""AlexNet with the paper's weighted loss: cross entropy times f_min / f_i.

Paper: AffectNet 2017, Table 7, "Weighted-loss", top-1, original: F1 .27 (contempt) to .82 (happy).
Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/alexnet_weighted.py --workdir=runs/weighted \
        --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/alexnet_weighted.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression"},)
    return variant(config, dataset)
