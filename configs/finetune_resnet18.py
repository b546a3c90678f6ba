"""ResNet18 initialised from ImageNet weights and fine-tuned with lower rates for earlier layers.

Ours: needs AffectNet. The weights are torchvision's, published on the Hugging Face Hub by timm;
with `pip install 'affect_jax[hub]'` they are downloaded once. `init_from` also accepts a file or
the folder of a run:

    python -m affect_jax.main --config=configs/finetune_resnet18.py --workdir=runs/finetune \
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
    # Each stage has half the learning rate of the next one; the stem has 1/32.
    rates = {"trunk": 1 / 32, "trunk/stage1": 1 / 16, "trunk/stage2": 1 / 8}
    rates |= {"trunk/stage3": 1 / 4, "trunk/stage4": 1 / 2}
    config.optimizer = {"name": "sgd", "momentum": 0.9, "weight_decay": 5e-4, "rates": rates}
    return config
