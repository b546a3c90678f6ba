"""ResNet18 for all three models of affect at once: expression, valence and arousal, action units.

Term weights are learned (homoscedastic uncertainty, Kendall et al. 2018); units as in
`resnet18_facs.py`.
Ours: needs AffectNet; on rendered faces see README.md.

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
