"""The model in the package: a small ResNet18 for seven expressions and action units.

Photographs of muxspace/facial_expressions (Apache-2.0; docs/ready_model.md) and rendered faces. The
first stage trains on both: rendered faces have exact action units and balanced expressions. The
second trains on the photographs alone, whose action units are estimated from landmarks. Contempt is
left out, as only 5 training photographs show it. `docs/ready_model.md` has the scores.

    bash launch/ready_model.sh DATA

trains, calibrates and exports it; DATA is a folder in the layout of AffectNet's first release.
"""

from affect_jax.config import defaults, variant

PARTS = {
    "photographs": {"name": "affectnet", "share": 0.5},
    "rendered": {"name": "synthetic_faces", "skew": "balanced", "share": 0.5},
}


def get_config(dataset: str = "affectnet"):
    config = variant(defaults(), dataset)
    config.trunk = {"name": "resnet18", "width": 32}  # 2.8 million parameters: 5.6 MB as float16
    config.heads = ("expression", "action_units")
    config.data.image_size, config.data.crop_size = 128, 112
    config.data.num_classes = 7
    config.data.augment = (
        {"name": "affine", "degrees": 15.0, "scale": (0.8, 1.2), "translate": 0.08},
        {"name": "colour_jitter", "brightness": 0.3, "contrast": 0.3},
        {"name": "random_erasing", "probability": 0.25},
        {"name": "mixup", "alpha": 0.3, "probability": 0.8},
    )
    config.losses = (
        {
            "name": "weighted_cross_entropy",
            "head": "expression",
            "scheme": "inverse_frequency",
            "power": 0.5,
            "max_weight": 5.0,
            "label_smoothing": 0.1,
        },
        {
            "name": "binary_cross_entropy",
            "head": "action_units",
            "frequency_weights": True,
            "max_weight": 10.0,
            "weight": 0.5,
        },
    )
    config.optimizer = {"name": "adamw", "weight_decay": 0.05}
    config.schedule = {"name": "cosine", "warmup": {"epochs": 0.5}}
    config.learning_rate = 2e-3
    config.batch_size = 64
    config.ema_decay = 0.998
    config.evaluation.mirror = True
    config.checkpoint.best = ""  # the last checkpoint is used: no choice of an epoch
    if dataset == "affectnet":
        mixture = {"data.name": "mixture", "data.options": {"parts": PARTS}}
        config.stages = ({**mixture, "duration": {"epochs": 5.0, "steps": 0}},)
        config.duration = {"epochs": 32.0, "steps": 0}
        config.evaluate_every.epochs = 4.0
    return config
