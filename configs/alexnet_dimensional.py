"""AlexNet for valence and arousal: one network for both axes, squared error.

Paper: AffectNet 2017, section 5.2, trains one AlexNet per axis with the Euclidean loss; Table 8:
RMSE .37 (valence) and .41 (arousal), CCC .60 and .34. The 2018 summary uses one network for both,
as this config does.
Ours: needs AffectNet; docs/results.md has results on rendered faces.

    python -m affect_jax.main --config=configs/alexnet_dimensional.py \
        --workdir=runs/dimensional --config.data.manual_dir=/path/to/AffectNet
    python -m affect_jax.main --config=configs/alexnet_dimensional.py:synthetic_faces
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.heads = ("valence_arousal",)
    config.losses = ({"name": "squared_error", "head": "valence_arousal"},)
    config.checkpoint.best = "dimensional.mean.ccc"
    return variant(config, dataset)
