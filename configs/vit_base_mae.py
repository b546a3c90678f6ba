"""ViT-B/16 with MAE weights, fine-tuned as FMAE: AdamW with layer-wise rates, RandAugment, erasing.

Paper: Ning et al. 2024 (arXiv:2407.11243); code: github.com/forever208/FMAE-IAT,
`AffectNet_finetune.py` and README, after github.com/facebookresearch/mae. Accuracy of FMAE with
ViT-L on AffectNet-8: 65.0; the code prints the best epoch on the validation split. The network was
trained for 8 classes on a copy of AffectNet on Kaggle (issue 5). The README gives the command for
ViT-L only; its ViT-B weights are trained here with the same settings.
Ours: needs AffectNet.

Settings of the code: mean of the patches, stochastic depth 0.1, AdamW with rate 5e-4 x 64 / 256
and weight decay 0.05, layer decay 0.65, half a cosine to 1e-6 after 3 epochs of warm-up, batch 64,
30 epochs, mirror, RandAugment (twice one operation of magnitude 9 for half of the faces), erasing
of 25 % of the faces, natural sampling.
Decided here: `rand_augment` has ten operations, with strengths up to the magnitude; erased areas
have the mean colour, not noise. The head starts with PyTorch's values; those of the code are 1000
times smaller.
Random crops of 8 to 100 % of the area, timm's default, would cut off faces: `affine` enlarges up
to 1.5 times. Positions and class token have weight decay like kernels, with 0.4 % of the rate.
Parameters stay float32; the code computes in float16, for which --config.dtype=bfloat16 is the
substitute.

    python -m affect_jax.main --config=configs/vit_base_mae.py --workdir=runs/vit \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=FMAE_ViT_base.pth
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "vit_base"}
    config.data.augment = (
        {"name": "affine", "scale": (1.0, 1.5), "translate": 0.1, "probability": 1.0},
        {"name": "rand_augment", "count": 1, "magnitude": 0.9, "probability": 0.5},
        {"name": "rand_augment", "count": 1, "magnitude": 0.9, "probability": 0.5},
        {"name": "random_erasing", "probability": 0.25},
    )
    config.checkpoint.best = "categorical.top1.original.accuracy"
    config = variant(config, dataset)
    trunk = {"name": "vit_base", "pooling": "mean", "stochastic_depth": 0.1}
    if dataset == "synthetic_faces":
        config.trunk = {**trunk, "width": 96, "heads": 3, "depth": 4}
    else:
        config.trunk = trunk
        config.data.image_size = 224
        config.init_from = "FMAE_ViT_base.pth"
        config.batch_size, config.learning_rate = 64, 1.25e-4
        config.optimizer = {"name": "adamw", "weight_decay": 0.05, "layer_decay": 0.65}
        config.schedule = {"name": "cosine", "warmup": {"epochs": 3.0}, "final": 0.008}
        config.duration = {"epochs": 30.0, "steps": 0}
    return config
