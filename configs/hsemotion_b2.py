"""EfficientNet-B2 as HSEmotion (EmotiEffLib) trains it: first the head, then all layers, with SAM.

Savchenko, Savchenko and Makarov, "Classifying emotions and engagement in online learning based on
a single facial expression recognition neural network", IEEE Transactions on Affective Computing,
2022; code: github.com/sb-ai-lab/EmotiEffLib, train_emotions-pytorch.ipynb.
Published there for enet_b2_8.pt: accuracy 0.630 on 8 classes and 0.663 on 7 (the same
network without the output of contempt) on the validation set, at the best of six epochs.
Ours: needs AffectNet. The trunk starts from their network for face identification on VGGFace2:

    python -m affect_jax.main --config=configs/hsemotion_b2.py --workdir=runs/hsemotion_b2 \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=state_vggface2_enet2.pt

Their trained weights become a run without training:

    python -m affect_jax.main --mode=import --config=configs/hsemotion_b2.py \
        --workdir=runs/hsemotion --config.init_from=enet_b2_8.pt

The settings are those of hsemotion_b0.py, which lists them and what was decided here, with faces of
260 pixels.
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "efficientnet_b2"}
    smoothed = {"label_smoothing": 0.1, "normalize_weights": False}
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression", **smoothed},)
    config.data.mirror = False
    config.checkpoint.best = "categorical.top1.original.accuracy"
    config = variant(config, dataset)
    if dataset == "synthetic_faces":
        config.trunk = {"name": "efficientnet_b2", "width": 16}
        return config
    config.data.image_size = config.data.crop_size = 260
    config.trunk = {"name": "efficientnet_b2", "padding": "same"}
    config.init_from = "state_vggface2_enet2.pt"
    alphabetical = ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness")
    config.init_outputs = (*alphabetical, "surprise")
    config.batch_size = 64
    config.schedule = {"name": "constant"}
    head_only = {"name": "adam", "rates": {"trunk": 0.0}}
    first = {
        "duration": {"epochs": 3.0, "steps": 0},
        "learning_rate": 1e-3,
        "optimizer": {"name": "sam", "rho": 0.05, "base": head_only},
    }
    config.stages = (first,)
    config.duration = {"epochs": 6.0, "steps": 0}
    config.learning_rate = 1e-4
    config.optimizer = {"name": "sam", "rho": 0.05, "base": {"name": "adam"}}
    return config
