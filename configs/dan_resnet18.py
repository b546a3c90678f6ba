"""The baseline of DAN: ResNet18 with MS-Celeb-1M weights and a balanced sampler.

Paper: Wen et al., Distract Your Attention (arXiv:2109.07270); code: github.com/yaoing/DAN,
`affectnet.py` and README. DAN adds attention heads and two losses to this network. Accuracy of DAN
on AffectNet-8: 62.09 (epoch 5), AffectNet-7: 65.69 (epoch 6), each the best epoch on the
validation split, networks trained for 8 and 7 classes. The first network has 60.4 on a user's
faces cropped from the first release (issue 9). The repository has no score of this baseline on
AffectNet.
Ours: needs AffectNet.

Settings of the code: the second release's faces resized to 224 pixels, mirror, RandomAffine(20
degrees, scale 0.8 to 1, shift 0.2, nearest pixels) for 70 % of the faces, RandomErasing with
torchvision's defaults, Adam with rate 1e-4 and no weight decay, rate times 0.6 after each epoch,
batch 256, 10 epochs (README; the default of the code is 40).
Decided here: its sampler draws as many faces as the split has, with replacement, each class
equally often. `up` draws with equal shares too, but its epoch has 8 x 134,415 faces. Durations are
therefore in steps: 1,124 are one epoch of 287,651 faces. With 7 classes an epoch has 1,109.

    python -m affect_jax.main --config=configs/dan_resnet18.py --workdir=runs/dan \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=resnet18_msceleb.pth \
        --config.data.options.variant=second

Without the last flag it reads the first release.
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "resnet18"}
    config.data.augment = (
        {
            "name": "affine",
            "degrees": 20.0,
            "scale": (0.8, 1.0),
            "translate": 0.2,
            "bilinear": False,
            "probability": 0.7,
        },
        {"name": "random_erasing", "probability": 0.5},
    )
    config.sampling = {"name": "up"}
    config.checkpoint.best = "categorical.top1.original.accuracy"
    config = variant(config, dataset)
    if dataset == "affectnet":
        epoch = {"epochs": 0.0, "steps": 1_124}
        config.data.image_size = 224
        config.init_from = "resnet18_msceleb.pth"
        config.optimizer, config.learning_rate = {"name": "adam"}, 1e-4
        config.schedule = {"name": "step", "decay": 0.6, "interval": epoch}
        config.duration = {"epochs": 0.0, "steps": 11_240}
        config.evaluate_every = config.checkpoint.every = epoch
    return config
