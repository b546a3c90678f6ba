"""The image backbone of POSTER++ with its schedule: IResNet50, SAM and Adam, a balanced sampler.

Paper: Mao et al. (arXiv:2301.12149); code: github.com/Talented-Q/POSTER_V2, `main.py`, `main_8.py`
and README. POSTER++ joins the first three stages of this backbone with the features of a landmark
network by cross-attention, which is left out here. Accuracy of POSTER++ on AffectNet-8: 63.77,
AffectNet-7: 67.49, each the best epoch on the validation split, networks trained for 8 and 7
classes. A user found 65 for its 7-class weights (issue 11). The repository has no score of the
backbone alone.
Ours: needs AffectNet.

Settings of the code: mirror, RandomErasing of 5 % of every face, SAM (rho 0.05) around Adam with
rate 1e-6, rate times 0.98 after each epoch, batch 144, 200 epochs, 112 pixels. The balanced
sampler is missing in the first version of the code; its author states that it belongs there
(issues 12 and 14). `--weight-decay` is not passed on to its optimizer.
Decided here: weights of InsightFace (`backbone.pth` of `arcface_torch`) with all four stages and
images in [-1, 1], since `ir50.pth` has other layers and fits three stages. Faces are stored with
112 pixels; the code takes every second of 224. SAM's second pass does not update the running
statistics. Sampler and durations as in dan_resnet18.py: an epoch has 1,998 steps, with 7 classes
1,972.

    python -m affect_jax.main --config=configs/ires50.py --workdir=runs/ires50 \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=backbone.pth
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "iresnet50"}
    config.data.augment = ({"name": "random_erasing", "area": (0.05, 0.05), "probability": 1.0},)
    config.sampling = {"name": "up"}
    config.checkpoint.best = "categorical.top1.original.accuracy"
    config = variant(config, dataset)
    if dataset == "synthetic_faces":
        config.trunk = {"name": "iresnet50", "width": 8}  # 50 layers take long on a CPU
    else:
        epoch = {"epochs": 0.0, "steps": 1_998}
        config.data.image_size = config.data.crop_size = 112
        config.init_from = "backbone.pth"
        config.batch_size, config.learning_rate = 144, 1e-6
        config.optimizer = {"name": "sam", "rho": 0.05, "base": {"name": "adam"}}
        config.schedule = {"name": "step", "decay": 0.98, "interval": epoch}
        config.duration = {"epochs": 0.0, "steps": 399_600}
        config.evaluate_every = config.checkpoint.every = epoch
    return config
