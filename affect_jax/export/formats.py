"""A trained network in three formats, each compared with the network that it was made from.

Exported networks compute in float32, also where the run computed in bfloat16: not every runtime
has that type on a CPU.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from affect_jax.config import from_dict, to_dict
from affect_jax.core.errors import UserError
from affect_jax.core.labels import AXES
from affect_jax.facs.action_units import UNITS
from affect_jax.models import imported_weights
from affect_jax.models.network import create_network
from affect_jax.models.predict_step import predict_step
from affect_jax.run.load import TrainedNetwork

FORMATS = ("stablehlo", "onnx", "safetensors")
WEIGHTS = "model.safetensors"
"""Under this name the Hugging Face Hub, and `config.init_from`, look for a repository's weights."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""What the StableHLO is lowered for; one file serves all."""

TOLERANCE = 1e-4
BATCHES = (1, 8)
"""An export whose outputs differ by more at one of these batch sizes is not kept."""

Outputs = dict[str, Any]  # {head: float32 [b, ...]}


def write(
    trained: TrainedNetwork, form: str, out: pathlib.Path, *, beside: bool = False
) -> dict[str, Any]:
    """Writes a network into a folder.

    **Arguments:**

    - `form`: one of `FORMATS`.
    - `out`: exists.
    - `beside`: of StableHLO: the parameters in a file of their own, and not in the program.

    **Returns:**

    `files`, their names; and of what can be run, `largest_difference` from the network in JAX by
    batch size.

    **Raises:** `UserError` where a package is missing, the network has something that the format
    cannot say, or the outputs differ.
    """
    if form == "safetensors":
        _write(out / WEIGHTS, safetensors.numpy.save(_named(trained.variables)))
        return {"files": [WEIGHTS]}
    if form == "onnx":
        return {"files": ["model.onnx"], "largest_difference": _onnx(trained, out / "model.onnx")}
    differences = _stablehlo(trained, out / "model.stablehlo", beside)
    if beside:
        _write(out / WEIGHTS, safetensors.numpy.save(_named(trained.variables)))
    files = ["model.stablehlo", *([WEIGHTS] if beside else [])]
    return {"files": files, "largest_difference": differences}


def predictor(trained: TrainedNetwork) -> Callable[[dict[str, Any], Any], Outputs]:
    """`(variables, uint8 [b, S, S, 3]) -> {head: float32 [b, ...]}`: `steps.predict_step`."""
    config = from_dict({**to_dict(trained.config), "dtype": "float32"})
    network, mirror = create_network(config), config.evaluation.mirror
    return lambda variables, images: predict_step(
        network, variables, {"image": images}, mirror=mirror
    )


def image_shape(trained: TrainedNetwork) -> tuple[int, int, int]:
    size = trained.config.data.image_size
    return size, size, 3


def outputs(trained: TrainedNetwork) -> dict[str, dict[str, Any]]:
    """What each output is: its shape after the batch, what its numbers are called and mean."""
    known = {
        "expression": (trained.classes, "probability of each expression; they sum to 1"),
        "valence_arousal": (AXES, "in [-1, 1]"),
        "action_units": (
            tuple(f"AU{unit}" for unit in UNITS),
            "probability that each facial action unit is active",
        ),
    }
    return {
        head: {"names": list(known[head][0]), "meaning": known[head][1]}
        for head in trained.network.heads
    }


def _onnx(trained: TrainedNetwork, path: pathlib.Path) -> dict[str, float]:
    try:
        import onnxruntime

        from affect_jax.export import onnx_model
    except ImportError as error:
        raise UserError(
            f"--format=onnx: needs {error.name}; pip install 'affect_jax[export]'"
        ) from None
    predict = predictor(trained)
    model = onnx_model.convert(
        lambda images: predict(trained.variables, images),
        image_shape(trained),
        name=trained.config.trunk.name,
        about={"outputs": json.dumps(outputs(trained))},
    )
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]

    def run(images: np.ndarray) -> Outputs:
        return dict(zip(names, session.run(None, {"image": images}), strict=True))

    differences = _compared(trained, run, "onnx")
    _write(path, content)
    return differences


def _stablehlo(trained: TrainedNetwork, path: pathlib.Path, beside: bool) -> dict[str, float]:
    predict, named = predictor(trained), _named(trained.variables)
    treedef = jax.tree.structure(trained.variables)

    def with_parameters(parameters: dict[str, Any], images: Any) -> Outputs:
        ordered = [parameters[name] for name in named]
        return predict(jax.tree.unflatten(treedef, ordered), images)

    def alone(images: Any) -> Outputs:
        return predict(trained.variables, images)

    (batch,) = jax_export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((batch, *image_shape(trained)), np.uint8)
    if beside:
        shapes = {n: jax.ShapeDtypeStruct(a.shape, a.dtype) for n, a in named.items()}
        made = jax_export.export(jax.jit(with_parameters), platforms=PLATFORMS)(shapes, images)
    else:
        made = jax_export.export(jax.jit(alone), platforms=PLATFORMS)(images)
    content = bytes(made.serialize())
    call = jax_export.deserialize(bytearray(content)).call
    given = (named,) if beside else ()
    differences = _compared(trained, lambda faces: dict(call(*given, faces)), "stablehlo")
    _write(path, content)
    return differences


def _compared(
    trained: TrainedNetwork, run: Callable[[np.ndarray], Outputs], form: str
) -> dict[str, float]:
    """The largest difference of any output from JAX's, by batch size."""
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (max(BATCHES), *image_shape(trained)), np.uint8)
    with jax.default_matmul_precision("highest"):
        wanted = jax.jit(predictor(trained))(trained.variables, faces)
        found = {size: run(faces[:size]) for size in BATCHES}
    differences = {
        str(size): max(
            float(np.abs(np.asarray(wanted[head])[:size] - np.asarray(got[head])).max())
            for head in wanted
        )
        for size, got in found.items()
    }
    worst = max(differences.values())
    if not worst <= TOLERANCE:
        raise UserError(
            f"--format={form}: its outputs differ from JAX's by {worst:.1e}, more than "
            f"{TOLERANCE:.0e}; nothing was written"
        )
    return differences


def _named(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    named = imported_weights.named(variables["params"], variables["batch_stats"])
    return {name: np.ascontiguousarray(array) for name, array in named.items()}


def _write(path: pathlib.Path, content: bytes) -> None:
    """The file appears whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content)
    partial.replace(path)
