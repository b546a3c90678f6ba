"""AlexNet for expression, valence and arousal together.

The 2018 summary's joint model: one trunk, two heads. Weighted cross entropy plus concordance. A
face without one of the targets contributes only to the loss of the other head.
Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/alexnet_joint.py --workdir=runs/alexnet_joint \
        --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/alexnet_joint.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.heads = ("expression", "valence_arousal")
    config.losses = (
        {"name": "weighted_cross_entropy", "head": "expression"},
        {"name": "ccc", "head": "valence_arousal"},
    )
    config.checkpoint.best = "multitask"
    return variant(config, dataset)
