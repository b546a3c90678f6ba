"""AlexNet for valence and arousal: one network, both axes, squared error.

Paper: AffectNet 2017, section 5.2, trains one AlexNet an axis with the Euclidean loss; Table 8:
RMSE .37 valence, .41 arousal; CCC .60 and .34. The 2018 summary has one network for both, as here.
Ours: needs AffectNet; on rendered faces see README.md.

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
