"""Export formats: StableHLO, ONNX and safetensors. Each export is checked against the JAX network.

Exported networks compute in float32 even if the run computed in bfloat16, because not every runtime
supports bfloat16 on a CPU.
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
from affect_jax.core.paths import write_atomically
from affect_jax.facs.action_units import UNITS
from affect_jax.models import weight_mapping
from affect_jax.models.network import create_network, predict_step
from affect_jax.run.trained_network import TrainedNetwork

FORMATS = ("stablehlo", "onnx", "safetensors")
WEIGHTS_FILE = "model.safetensors"
"""The Hugging Face Hub and `config.init_from` expect a repository's weights under this name."""

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms for which the StableHLO is lowered; one file contains all of them."""

TOLERANCE = 1e-4
CHECKED_BATCH_SIZES = (1, 8)
"""Batch sizes at which the outputs are compared. The export fails if an output differs by more than
`TOLERANCE`."""

Outputs = dict[str, Any]  # {head: float32 [b, ...]}
Run = Callable[[np.ndarray], Outputs]


def write_network(
    trained: TrainedNetwork, export_format: str, out: pathlib.Path, *, separate_params: bool = False
) -> dict[str, Any]:
    """Writes a network into a folder.

    **Arguments:**

    - `export_format`: one of `FORMATS`.
    - `out`: an existing folder.
    - `separate_params`: StableHLO only: write the parameters to a separate file instead of into the
      program.

    **Returns:** `files`, the names of the files; for StableHLO and ONNX also `largest_difference`:
    batch size -> largest difference from the outputs of the JAX network.

    **Raises:** `UserError` if a package is missing, the network cannot be converted to the format,
    or the outputs differ.
    """
    contents: dict[str, bytes] = {}
    run = None
    if export_format == "onnx":
        contents["model.onnx"], run = _convert_to_onnx(trained)
    elif export_format == "stablehlo":
        contents["model.stablehlo"], run = _convert_to_stablehlo(trained, separate_params)
    if export_format == "safetensors" or separate_params:
        contents[WEIGHTS_FILE] = safetensors.numpy.save(_named_parameters(trained.variables))
    result: dict[str, Any] = {"files": list(contents)}
    if run is not None:
        result["largest_difference"] = _check_outputs(trained, run, export_format)
    for name, content in contents.items():
        with write_atomically(out / name) as partial:
            partial.write_bytes(content)
    return result


def create_predict_function(trained: TrainedNetwork) -> Callable[[dict[str, Any], Any], Outputs]:
    """Returns `predict_step` as `(variables, uint8 [b, S, S, 3]) -> {head: float32 [b, ...]}`."""
    config = from_dict({**to_dict(trained.config), "dtype": "float32"})
    network, mirror = create_network(config), config.evaluation.mirror
    return lambda variables, images: predict_step(
        network, variables, {"image": images}, mirror=mirror
    )


def image_shape(trained: TrainedNetwork) -> tuple[int, int, int]:
    size = trained.config.data.image_size
    return size, size, 3


def describe_outputs(trained: TrainedNetwork) -> dict[str, dict[str, Any]]:
    """Describes each output: the names of its values, in order, and their meaning."""
    descriptions = {
        "expression": (trained.classes, "probability of each expression; they sum to 1"),
        "valence_arousal": (AXES, "in [-1, 1]"),
        "action_units": (
            tuple(f"AU{unit}" for unit in UNITS),
            "probability that each facial action unit is active",
        ),
    }
    return {
        head: {"names": list(descriptions[head][0]), "meaning": descriptions[head][1]}
        for head in trained.network.heads
    }


def _convert_to_onnx(trained: TrainedNetwork) -> tuple[bytes, Run]:
    """Returns the content of `model.onnx` and a function that runs it."""
    try:
        import onnxruntime

        from affect_jax.export import onnx_model
    except ImportError as error:
        raise UserError(
            f"--format=onnx: needs {error.name}; pip install 'affect_jax[export]'"
        ) from None
    predict = create_predict_function(trained)
    model = onnx_model.convert_to_onnx(
        lambda images: predict(trained.variables, images),
        image_shape(trained),
        name=trained.config.trunk.name,
        metadata={"outputs": json.dumps(describe_outputs(trained))},
    )
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return content, lambda faces: dict(zip(names, session.run(None, {"image": faces}), strict=True))


def _convert_to_stablehlo(trained: TrainedNetwork, separate_params: bool) -> tuple[bytes, Run]:
    """Returns the content of `model.stablehlo` and a function that runs it."""
    predict = create_predict_function(trained)
    parameters = _named_parameters(trained.variables)
    treedef = jax.tree.structure(trained.variables)

    def with_parameters(parameters: dict[str, Any], images: Any) -> Outputs:
        return predict(jax.tree.unflatten(treedef, list(parameters.values())), images)

    def with_constants(images: Any) -> Outputs:
        return predict(trained.variables, images)

    (batch,) = jax_export.symbolic_shape("batch")
    shapes: list[Any] = [jax.ShapeDtypeStruct((batch, *image_shape(trained)), np.uint8)]
    if separate_params:
        shapes.insert(0, jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), parameters))
    function = with_parameters if separate_params else with_constants
    content = bytes(jax_export.export(jax.jit(function), platforms=PLATFORMS)(*shapes).serialize())
    call = jax_export.deserialize(bytearray(content)).call
    arguments = (parameters,) if separate_params else ()
    return content, lambda faces: dict(call(*arguments, faces))


def _check_outputs(trained: TrainedNetwork, run: Run, export_format: str) -> dict[str, float]:
    """Compares the outputs of an export with those of JAX on random images.

    **Returns:** batch size -> largest absolute difference.

    **Raises:** `UserError` if a difference exceeds `TOLERANCE`.
    """
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (max(CHECKED_BATCH_SIZES), *image_shape(trained)), np.uint8)
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(create_predict_function(trained))(trained.variables, faces)
        outputs = {size: run(faces[:size]) for size in CHECKED_BATCH_SIZES}
    differences = {
        str(size): max(
            float(np.abs(np.asarray(expected[head])[:size] - np.asarray(actual[head])).max())
            for head in expected
        )
        for size, actual in outputs.items()
    }
    max_difference = max(differences.values())
    if not max_difference <= TOLERANCE:
        raise UserError(
            f"--format={export_format}: the outputs differ from JAX's by {max_difference:.1e}, "
            f"more than {TOLERANCE:.0e}; nothing was written"
        )
    return differences


def _named_parameters(variables: dict[str, Any]) -> dict[str, np.ndarray]:
    """The parameters as a flat dictionary, in the layout of safetensors."""
    arrays = weight_mapping.flatten_by_name(variables["params"], variables["batch_stats"])
    return {name: np.ascontiguousarray(array) for name, array in arrays.items()}
