"""ResNet18 for all three models of affect together: expression, valence and arousal, action units.

The weights of the loss terms are learned (homoscedastic uncertainty, Kendall et al. 2018). Action
units as in `resnet18_facs.py`.
Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/resnet18_all.py --workdir=runs/resnet18_all \
        --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/resnet18_all.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "resnet18"}
    config.heads = ("expression", "valence_arousal", "action_units")
    config.losses = (
        {"name": "weighted_cross_entropy", "head": "expression", "weight": "learned"},
        {"name": "ccc", "head": "valence_arousal", "weight": "learned"},
        {
            "name": "binary_cross_entropy",
            "head": "action_units",
            "frequency_weights": True,
            "max_weight": 10.0,
            "weight": "learned",
        },
    )
    config.checkpoint.best = "multitask"
    return variant(config, dataset)
