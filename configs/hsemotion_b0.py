"""EfficientNet-B0 as HSEmotion (EmotiEffLib) trains it: first the head, then all layers, with SAM.

Savchenko, Savchenko and Makarov, "Classifying emotions and engagement in online learning based on
a single facial expression recognition neural network", IEEE Transactions on Affective Computing,
2022; code: github.com/sb-ai-lab/EmotiEffLib, train_emotions-pytorch.ipynb.
Published there for enet_b0_8_best_vgaf.pt: accuracy 0.613 on 8 classes and 0.646 on 7 (the same
network without the output of contempt) on the validation set, at the best of six epochs.
Ours: needs AffectNet. The trunk starts from their network for face identification on VGGFace2:

    python -m affect_jax.main --config=configs/hsemotion_b0.py --workdir=runs/hsemotion_b0 \
        --config.data.manual_dir=/path/to/AffectNet --config.init_from=state_vggface2_enet0_new.pt

Their trained weights become a run without training:

    python -m affect_jax.main --mode=import --config=configs/hsemotion_b0.py \
        --workdir=runs/hsemotion --config.init_from=enet_b0_8_best_vgaf.pt

Settings of the code: the annotated boxes (issue 11) resized to 224 pixels without augmentation,
batch 64, weighted and smoothed cross entropy, SAM (rho 0.05) around Adam with a constant rate; 3
epochs of the head with 1e-3, then 6 epochs of all layers with 1e-4; no weight decay and no dropout.
Decided here: the code weights the share of each class in a smoothed target (up to 36 to 1), here an
example has the weight of its class; both divide by the number of examples, and Adam cancels the
scale of the weights. In the first stage, batch normalisation uses and keeps its running statistics,
and SAM's second pass does not update them; the code does. The second stage starts from the last
epoch of the first; the code from the best on the validation set. A later notebook, for the second
release, mirrors.
"""

from affect_jax.config import defaults, variant


def get_config(dataset: str = "affectnet"):
    config = defaults()
    config.trunk = {"name": "efficientnet_b0"}
    smoothed = {"label_smoothing": 0.1, "normalize_weights": False}
    config.losses = ({"name": "weighted_cross_entropy", "head": "expression", **smoothed},)
    config.data.mirror = False
    config.checkpoint.best = "categorical.top1.original.accuracy"
    config = variant(config, dataset)
    if dataset == "synthetic_faces":
        config.trunk = {"name": "efficientnet_b0", "width": 16}
        return config
    config.data.image_size = config.data.crop_size = 224
    config.trunk = {"name": "efficientnet_b0", "padding": "same"}
    config.init_from = "state_vggface2_enet0_new.pt"
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
