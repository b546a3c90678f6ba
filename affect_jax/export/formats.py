"""Export formats: StableHLO, ONNX and safetensors. Each export is checked against the JAX network.

Exported networks compute in float32 even if the run computed in bfloat16, because not every runtime
supports bfloat16 on a CPU.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax import export as jax_export

from affect_jax.config import from_dict, to_dict
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.models import weight_mapping
from affect_jax.models.network import create_network, predict_step
from affect_jax.run.trained_network import TrainedNetwork

PLATFORMS = ("cpu", "cuda", "tpu")
"""Platforms for which the StableHLO is lowered; one file contains all of them."""

OPSET = 18
IR_VERSION = 8
"""Both versions are from 2022, so that old runtimes can read the file (onnxruntime from 1.14)."""

TOLERANCE = 1e-4
CHECKED_BATCH_SIZES = (1, 8)
"""Batch sizes at which the outputs are compared. The export fails if an output differs by more than
`TOLERANCE`."""

Outputs = dict[str, Any]  # {head: float32 [b, ...]}
Function = Callable[[Any], Outputs]  # of images, uint8 [b, S, S, 3]


def write_network(
    trained: TrainedNetwork, export_format: str, out: pathlib.Path, *, half: bool = False
) -> dict[str, Any]:
    """Writes a network into a folder.

    **Arguments:**

    - `export_format`: `stablehlo`, `onnx` or `safetensors`.
    - `out`: a folder, which is created after the conversion.
    - `half`: store the arrays of `safetensors` as float16.

    **Returns:** `files`, the names of the files; for StableHLO and ONNX also `largest_difference`:
    batch size -> largest difference from the outputs of the JAX network.

    **Raises:** `UserError` if a package is missing, the network cannot be converted to the format,
    the outputs differ, or the folder cannot be written.
    """
    name = f"model.{export_format}"  # the Hugging Face Hub expects `model.safetensors`
    result: dict[str, Any] = {"files": [name]}
    if export_format == "safetensors":
        variables = trained.variables
        arrays = weight_mapping.flatten_by_name(variables["params"], variables["batch_stats"])
        dtype = np.float16 if half else np.float32
        content = safetensors.numpy.save(
            {name: np.ascontiguousarray(array, dtype) for name, array in arrays.items()}
        )
    else:
        function = functools.partial(create_predict_function(trained), trained.variables)
        try:
            if export_format == "onnx":
                metadata = {"outputs": json.dumps(describe_outputs(trained))}
                content, run = convert_to_onnx(
                    function, image_shape(trained), trained.config.trunk.name, metadata
                )
            else:
                content, run = _convert_to_stablehlo(function, image_shape(trained))
        except ImportError as error:
            raise UserError(
                f"--format={export_format}: needs {error.name}; pip install 'affect_jax[export]'"
            ) from error
        result["largest_difference"] = _check_outputs(trained, run, export_format)
    with writing_to(out), write_atomically(out / name) as partial:
        partial.write_bytes(content)
    return result


def create_predict_function(trained: TrainedNetwork) -> Callable[[dict[str, Any], Any], Outputs]:
    """Returns `predict_step` as `(variables, uint8 [b, S, S, 3]) -> {head: float32 [b, ...]}`."""
    config = from_dict({**to_dict(trained.config), "dtype": "float32"})
    network, mirror = create_network(config), config.evaluation.mirror
    return lambda variables, images: predict_step(
        network, variables, {"image": images}, mirror=mirror, temperature=trained.temperature
    )


def image_shape(trained: TrainedNetwork) -> tuple[int, int, int]:
    size = trained.config.data.image_size
    return size, size, 3


def describe_outputs(trained: TrainedNetwork) -> dict[str, dict[str, Any]]:
    """Describes each output: the names of its values, in order, and their meaning."""
    meanings = {
        "expression": "probability of each expression; they sum to 1",
        "valence_arousal": "in [-1, 1]",
        "action_units": "probability that each facial action unit is active",
    }
    return {
        head: {"names": list(names), "meaning": meanings[head]}
        for head, names in trained.output_names.items()
    }


def convert_to_onnx(
    function: Function, image_shape: tuple[int, ...], name: str, metadata: Mapping[str, str]
) -> tuple[bytes, Function]:
    """Converts a function from images to named arrays.

    **Arguments:**

    - `function`: uint8 [b, *image_shape] -> `{name: float32 [b, ...]}` for any b.
    - `name`: name of the graph.
    - `metadata`: stored in the file's metadata.

    **Returns:** the content of a file with the input `image` and one output for each name, and a
    function that runs it.

    **Raises:** `UserError` if jax2onnx cannot convert the function.
    """
    import jax2onnx
    import onnx
    import onnx_ir
    import onnxruntime
    from onnx_ir.passes.common import DeduplicateInitializersPass

    (batch,) = jax_export.symbolic_shape("batch")
    input_spec = jax.ShapeDtypeStruct((batch, *image_shape), np.uint8)
    names = list(jax.eval_shape(function, input_spec))

    def ordered_outputs(images: jax.Array) -> tuple[jax.Array, ...]:
        outputs = function(images)  # called once: each call would add the network to the graph
        return tuple(outputs[name] for name in names)

    try:
        model = jax2onnx.to_onnx(
            ordered_outputs,
            [input_spec],
            model_name=name,
            opset=OPSET,
            input_names=["image"],
            output_names=names,
            return_mode="ir",
        )
        # Averaging over the mirror image runs the network twice: store its weights once.
        DeduplicateInitializersPass(size_limit=2**31)(model)
        proto = onnx_ir.to_proto(model)
        # jax2onnx 0.17.1 writes some wrong intermediate shapes. If absent, readers infer them.
        del proto.graph.value_info[:]
        proto.ir_version = IR_VERSION
        onnx.helper.set_model_props(proto, dict(metadata))
        onnx.checker.check_model(proto, full_check=True)
    except Exception as error:  # an unsupported primitive may raise any exception
        raise UserError(
            f"--format=onnx: jax2onnx cannot convert this network ({first_line(error)}); "
            "--format=stablehlo supports all of JAX"
        ) from error
    content = proto.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return content, lambda faces: dict(
        zip(names, session.run(names, {"image": faces}), strict=True)
    )


def _convert_to_stablehlo(
    function: Function, image_shape: tuple[int, ...]
) -> tuple[bytes, Function]:
    """Returns the content of `model.stablehlo` and a function that runs it."""
    (batch,) = jax_export.symbolic_shape("batch")
    shape = jax.ShapeDtypeStruct((batch, *image_shape), np.uint8)
    exported = jax_export.export(jax.jit(function), platforms=PLATFORMS)(shape)
    content = bytes(exported.serialize())
    call = jax_export.deserialize(bytearray(content)).call
    return content, lambda faces: dict(call(faces))


def _check_outputs(trained: TrainedNetwork, run: Function, export_format: str) -> dict[str, float]:
    """Compares the outputs on random images with those of JAX; see `write_network`."""
    random = np.random.default_rng(0)
    faces = random.integers(0, 256, (max(CHECKED_BATCH_SIZES), *image_shape(trained)), np.uint8)
    differences = {}
    with jax.default_matmul_precision("highest"):
        expected = jax.jit(create_predict_function(trained))(trained.variables, faces)
        for size in CHECKED_BATCH_SIZES:
            actual = run(faces[:size])
            differences[str(size)] = max(
                float(np.abs(np.asarray(output[:size]) - np.asarray(actual[head])).max())
                for head, output in expected.items()
            )
    max_difference = max(differences.values())
    if not max_difference <= TOLERANCE:
        raise UserError(
            f"--format={export_format}: the outputs differ from JAX's by {max_difference:.1e}, "
            f"more than {TOLERANCE:.0e}; nothing was written"
        )
    return differences
