"""A head on a frozen ResNet18 with ImageNet weights: trains in minutes, for a first look.

Ours: needs AffectNet. See finetune_resnet18.py for the source of the weights.

    python -m affect_jax.main --config=configs/frozen_resnet18.py --workdir=runs/frozen \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=resnet18-f37072fd.pth
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = variant(defaults(), dataset)
    config.trunk = {"name": "resnet18"}
    config.init_from = "hf://timm/resnet18.tv_in1k"
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression"},)
    config.duration = {"epochs": 5.0, "steps": 0}
    config.schedule = {"name": "cosine", "warmup": {"epochs": 0.5}}
    rates = {"trunk": 0.0}  # freezes weights and running statistics, see optimizers.sgd
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "rates": rates}
    return config
