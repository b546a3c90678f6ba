"""AlexNet on AffectNet without resampling: the paper's "imbalanced" strategy.

Paper: AffectNet 2017, Table 7, "Imbalanced", top-1, original: F1 .08 (contempt) to .88 (happy).
Ours: needs AffectNet.

    python -m affect_jax.main --config=configs/alexnet_imbalanced.py --workdir=runs/imbalanced \
        --config.data.manual_dir=/path/to/AffectNet
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    return variant(defaults(), dataset)
