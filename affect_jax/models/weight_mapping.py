"""Loads weights from a file into a model: weights of a PyTorch network or of this package.

The names and shapes of all arrays of the trunk must match, otherwise `load` raises `UserError`. A
head is loaded if its number of outputs matches; otherwise it keeps its initial values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.models.base import TORCH_MAPPINGS, TorchMapping

TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
UNUSED_LEAF = ".num_batches_tracked"  # PyTorch's counter, unused with a fixed momentum
MAX_SHOWN_PROBLEMS = 3  # a message counts the remaining ones


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Which weights of a file were loaded into a model.

    **Arguments:**

    - `source`: the file.
    - `loaded`: name in the model -> name in the file.
    - `initialised`: names in the model that keep their initial values (heads).
    - `unused`: names in the file that were not loaded (its head).
    """

    source: str
    loaded: dict[str, str]
    initialised: tuple[str, ...]
    unused: tuple[str, ...]

    def describe(self) -> str:
        """One line: the number of loaded arrays, and the names of all others."""
        text = f"Weights of {self.source}: {len(self.loaded):,} arrays loaded"
        if self.initialised:
            text += f"; with initial values: {', '.join(self.initialised)}"
        if self.unused:
            text += f"; not used: {', '.join(self.unused)}"
        return text


def flatten_by_name(params: Any, batch_stats: Any) -> dict[str, Any]:
    """Flattens the trees to `{"params.trunk.stem.conv.kernel": leaf, ...}`, the names in our files.

    `load` expects these names if any name in a file starts with `params.`, otherwise PyTorch's
    names. A `.safetensors` file with these names can be loaded again.
    """
    tree = {"params": params, "batch_stats": batch_stats}
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def load(
    arrays: Mapping[str, np.ndarray],
    params: Any,
    batch_stats: Any,
    *,
    trunk: str,
    source: str,
) -> tuple[Any, Any, LoadReport]:
    """Loads the values of a file into the parameters and batch statistics of a model.

    **Arguments:**

    - `arrays`: result of `weight_files.read`, or arrays with the names of `flatten_by_name`.
    - `params`, `batch_stats`: trees of a newly initialised model; they are not modified.
    - `trunk`: name of the trunk in the registry.
    - `source`: name of the file in messages.

    **Returns:**

    New `params` and `batch_stats`, whose loaded leaves are float32 NumPy arrays, and a report.

    **Raises:** `UserError` if the file belongs to another network or a value is not finite.
    """
    leaves = flatten_by_name(params, batch_stats)
    if any(name.startswith("params.") for name in arrays):
        source_names, candidates = {name: name for name in leaves}, arrays
        trunk_names = [name for name in arrays if _is_in_trunk(name)]
    else:
        mapping = _find_torch_mapping(arrays, trunk, source)
        source_names = _match_torch_names(leaves, mapping)
        candidates = {
            name: _to_our_layout(torch_name, arrays[torch_name], mapping)
            for name, torch_name in source_names.items()
            if torch_name in arrays
        }
        head_prefix = f"{mapping.head}."
        trunk_names = [name for name in arrays if not name.startswith(head_prefix)]
    problems = list(_find_problems(arrays, leaves, candidates, source_names, trunk_names))
    if problems:
        raise _mismatch_error(arrays, trunk, source, problems)
    fresh_modules = {  # heads without all of their arrays
        _module_name(name)
        for name, leaf in leaves.items()
        if name not in candidates or candidates[name].shape != leaf.shape
    }
    loaded = {
        name: source_names[name] for name in leaves if _module_name(name) not in fresh_modules
    }
    values = [
        _to_finite_float32(candidates[name], loaded[name], source) if name in loaded else leaf
        for name, leaf in leaves.items()
    ]
    treedef = jax.tree.structure({"params": params, "batch_stats": batch_stats})
    tree = jax.tree.unflatten(treedef, values)
    used_names = set(loaded.values())
    report = LoadReport(
        source,
        loaded,
        initialised=tuple(name for name in leaves if name not in loaded),
        unused=tuple(n for n in arrays if n not in used_names and not n.endswith(UNUSED_LEAF)),
    )
    return tree["params"], tree["batch_stats"], report


def _find_torch_mapping(arrays: Mapping[str, np.ndarray], trunk: str, source: str) -> TorchMapping:
    if trunk not in TORCH_MAPPINGS:
        supported = ", ".join(sorted(TORCH_MAPPINGS))
        raise UserError(
            f"init_from = {source!r}: trunk {trunk!r} cannot load PyTorch weights"
            f"{_suggest_trunk(arrays, trunk)}; supported trunks: {supported}"
        )
    return TORCH_MAPPINGS[trunk]


def _match_torch_names(names: Iterable[str], mapping: TorchMapping) -> dict[str, str]:
    """Returns name in the model -> name in PyTorch; its classifier is the head `expression`."""
    torch_names = {}
    for name in names:
        layer, leaf = name.split(".", 1)[1].rsplit(".", 1)
        if layer == "expression":
            torch_names[name] = f"{mapping.head}.{TORCH_LEAVES[leaf]}"
        elif _is_in_trunk(name):
            torch_layer = mapping.to_torch_layer(layer.removeprefix("trunk."))
            torch_names[name] = f"{torch_layer}.{TORCH_LEAVES[leaf]}"
    return torch_names


def _to_our_layout(torch_name: str, array: np.ndarray, mapping: TorchMapping) -> np.ndarray:
    """PyTorch's axes are (outputs, inputs, rows, columns) or (outputs, inputs)."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    array = mapping.reorder_axes(torch_name, array)
    return array.transpose(axes) if axes else array


def _find_problems(
    arrays: Mapping[str, np.ndarray],
    leaves: Mapping[str, Any],
    candidates: Mapping[str, np.ndarray],
    source_names: Mapping[str, str],
    trunk_names: Iterable[str],
) -> Iterable[str]:
    """Yields the mismatches between trunk and file: missing arrays, other shapes, extra arrays."""
    for name in sorted(
        filter(_is_in_trunk, leaves), key=lambda name: not name.startswith("params.")
    ):
        our_name, shape = name.split(".", 1)[1], list(leaves[name].shape)
        if name not in candidates:
            yield f"{source_names[name]}: not in the file; {our_name} needs it"
        elif list(candidates[name].shape) != shape:
            source_shape = list(arrays[source_names[name]].shape)
            yield f"{source_names[name]} is {source_shape}; {our_name} is {shape} in the model"
    expected_names = set(source_names.values())
    for name in trunk_names:
        if name not in expected_names and not name.endswith(UNUSED_LEAF):
            yield f"{name}: not in the model"


def _mismatch_error(
    arrays: Mapping[str, np.ndarray], trunk: str, source: str, problems: list[str]
) -> UserError:
    mapping = TORCH_MAPPINGS.get(trunk)
    requirement = f" ({mapping.name}: {mapping.compatible_options})" if mapping else ""
    lines = problems[:MAX_SHOWN_PROBLEMS]
    if len(problems) > MAX_SHOWN_PROBLEMS:
        lines.append(f"and {len(problems) - MAX_SHOWN_PROBLEMS:,} more")
    hint = _suggest_trunk(arrays, trunk)
    message = f"init_from = {source!r}: does not match trunk {trunk!r}{requirement}{hint}"
    return UserError(message, lines)


def _suggest_trunk(arrays: Mapping[str, np.ndarray], trunk: str) -> str:
    for other_trunk, mapping in TORCH_MAPPINGS.items():
        if other_trunk != trunk and mapping.signature_key in arrays:
            return f"; it looks like {mapping.name}, which is trunk.name = {other_trunk!r}"
    return ""


def _to_finite_float32(array: np.ndarray, name: str, source: str) -> np.ndarray:
    if array.dtype.kind not in "fV":  # V: bfloat16
        raise UserError(f"init_from = {source!r}: {name} holds {array.dtype}, not real numbers")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; checked below
        values = np.array(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise UserError(f"init_from = {source!r}: {name} has values that are not finite")
    return values


def _is_in_trunk(name: str) -> bool:
    return name.split(".")[1:2] == ["trunk"]


def _module_name(name: str) -> str:
    """`params.trunk.stem.conv.kernel` -> `trunk`; `params.expression.bias` -> `expression`."""
    return name.split(".")[1]
