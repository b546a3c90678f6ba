"""ResNet18 for the intensities of 18 facial action units: masked, frequency-weighted cross entropy.

Targets are annotated where the dataset has annotations, else estimated from the 68 landmarks with
the rig (`affect_jax.facs.rig`). The log reports the number of each. AffectNet has landmarks only,
so a network trained on it learns to predict the rig's estimates from pixels.
Ours: needs AffectNet; docs/results.md has results on rendered faces.

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
