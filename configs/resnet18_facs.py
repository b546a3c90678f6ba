"""ResNet18 for the intensities of 18 facial action units: masked, frequency-weighted cross entropy.

Targets are annotated where the data set has them and else estimated from its 68 landmarks by the
rig (`affect_jax.facs.rig`); the log says which, and their share. AffectNet has landmarks only: a
network trained on it learns what the rig sees, from pixels.
Ours: needs AffectNet; on rendered faces see README.md.

    python -m affect_jax.main --config=configs/resnet18_facs.py --workdir=runs/resnet18_facs \
        --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/resnet18_facs.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "resnet18"}
    config.heads = ("action_units",)
    config.losses = (
        {
            "name": "binary_cross_entropy",
            "head": "action_units",
            "frequency_weights": True,
            "max_weight": 10.0,
        },
    )
    config.checkpoint.best = "action_units.mean.auc"
    return variant(config, dataset)
