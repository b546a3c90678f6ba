"""Loads weights from a file into a model: weights of a PyTorch network or of this package.

The names and shapes of all arrays of the trunk must match; a `TorchMapping` may convert shapes and
name optional arrays. A head is loaded if its number of outputs matches.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from affect_jax.core import labels
from affect_jax.core.errors import UserError
from affect_jax.core.registry import describe_unknown_name
from affect_jax.models.base import TORCH_MAPPINGS, TorchMapping

TORCH_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
UNUSED_LEAF = ".num_batches_tracked"  # PyTorch's counter, unused with a fixed momentum


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Which weights of the file `source` were loaded into a model."""

    source: str
    loaded: dict[str, str]  # name in the model -> name in the file
    initialised: tuple[str, ...]  # names in the model that keep their initial values
    unused: tuple[str, ...]  # names in the file that were not loaded

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

    `load` expects these names if one in a file starts with `params.`, otherwise PyTorch's names.
    """
    tree = {"params": params, "batch_stats": batch_stats}
    paths = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in paths}


def order_outputs(
    arrays: Mapping[str, np.ndarray],
    outputs: Sequence[str],
    *,
    classes: Sequence[str],
    trunk: str,
    source: str,
) -> dict[str, np.ndarray]:
    """Splits the classification layer of a PyTorch file into those of our heads.

    The layer may be the only one of a `Sequential`. Files of this package are returned unchanged.

    **Arguments:**

    - `outputs`: names of the layer's outputs, in any case: classes, `valence` and `arousal`; empty:
      it has the outputs of the head `expression`, in our order.
    - `classes`: names of the outputs of the head `expression`. Rows of AffectNet's other classes
      are left out.

    **Raises:** `UserError` if a name is unknown or missing, or their number is wrong.
    """
    mapping = TORCH_MAPPINGS.get(trunk)
    if mapping is None:
        return dict(arrays)
    head, arrays = mapping.head, {mapping.rename(name): array for name, array in arrays.items()}
    layer = {name: re.sub(r"^\.0\.", ".", name.removeprefix(head)) for name in arrays}
    layer = {name: end for name, end in layer.items() if re.fullmatch(r"\.(weight|bias)", end)}
    arrays = {head + layer[name] if name in layer else name: arrays[name] for name in arrays}
    if not (head and layer and outputs):
        return arrays
    names, classes = (list(map(labels.canonical_name, group)) for group in (outputs, classes))
    axes = labels.AXES if set(labels.AXES) & set(names) else ()
    known = dict.fromkeys((*classes, *labels.EXPRESSIONS, *labels.AXES))
    problems = [describe_unknown_name(name, known) for name in names if name not in known]
    problems += [f"{name!r} is missing" for name in (*classes, *axes) if name not in names]
    for end in layer.values():
        array = arrays.pop(head + end)
        if array.shape[:1] != (len(names),):
            shape = list(array.shape)
            problems += [f"must be () or name the outputs of {head}{end} {shape} in {source!r}"]
        if problems:
            raise UserError(f"init_outputs = {tuple(outputs)}: {'; '.join(problems)}")
        for part, part_names in (("", classes), (".valence_arousal", axes)):
            if part_names:
                arrays[head + part + end] = array[[names.index(name) for name in part_names]]
    return arrays


def load(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any, *, trunk: str, source: str
) -> tuple[Any, Any, LoadReport]:
    """Loads the values of a file into the parameters and batch statistics of a model.

    **Arguments:**

    - `arrays`: result of `weight_files.read`, or arrays with the names of `flatten_by_name`.
    - `params`, `batch_stats`: trees of a newly initialised model; they are not modified.
    - `trunk`: name of the trunk in the registry.
    - `source`: name of the file in messages.

    **Returns:** new `params` and `batch_stats`, whose loaded leaves are float32 NumPy arrays, and a
    report.

    **Raises:** `UserError` if the file belongs to another network or a value is not finite.
    """
    arrays = {name: array for name, array in arrays.items() if not name.endswith(UNUSED_LEAF)}
    leaves = flatten_by_name(params, batch_stats)
    mapping = TORCH_MAPPINGS.get(trunk)
    optional = ()
    if any(name.startswith("params.") for name in arrays):
        source_names, found = {name: name for name in leaves}, arrays
        trunk_names = filter(_is_in_trunk, arrays)
    elif mapping is None:
        raise UserError(
            f"init_from = {source!r}: PyTorch weights do not match trunk {trunk!r}, only those of "
            f"{', '.join(sorted(TORCH_MAPPINGS))}"
        )
    else:
        arrays = {mapping.rename(name): array for name, array in arrays.items()}
        source_names = _match_torch_names(leaves, mapping)
        found = {
            name: _to_our_layout(torch_name, arrays[torch_name], mapping)
            for name, torch_name in source_names.items()
            if torch_name in arrays
        }
        optional = mapping.optional
        trunk_names = [n for n in arrays if not n.startswith((f"{mapping.head}.", *optional))]
    found = _fit_shapes(found, leaves, mapping)
    unmatched = [
        name for name in leaves if name not in found or found[name].shape != leaves[name].shape
    ]
    problems = [
        f"{source_names[name]}: must be {list(leaves[name].shape)} as {name}, is "
        f"{list(found[name].shape) if name in found else 'missing'}"
        for name in sorted(filter(_is_in_trunk, unmatched), reverse=True)
        if name in found or not source_names[name].startswith(optional)
    ]
    problems += [f"{n}: not in the model" for n in trunk_names if n not in source_names.values()]
    if problems:
        requirement = f" ({mapping.requirement})" if mapping else ""
        raise UserError(
            f"init_from = {source!r}: does not match trunk {trunk!r}{requirement}; {problems[0]} "
            f"({len(problems):,} problems)"
        )
    initial = {n if _is_in_trunk(n) else n.split(".")[1] for n in unmatched}  # arrays; whole heads
    loaded = {n: source_names[n] for n in leaves if not initial & {n, n.split(".")[1]}}
    values = [
        _to_finite_float32(found[name], loaded[name], source) if name in loaded else leaf
        for name, leaf in leaves.items()
    ]
    treedef = jax.tree.structure({"params": params, "batch_stats": batch_stats})
    tree = jax.tree.unflatten(treedef, values)
    initialised = tuple(name for name in leaves if name not in loaded)
    unused = tuple(name for name in arrays if name not in loaded.values())
    report = LoadReport(source, loaded, initialised, unused)
    return tree["params"], tree["batch_stats"], report


def _fit_shapes(
    arrays: Mapping[str, np.ndarray], leaves: Mapping[str, Any], mapping: TorchMapping | None
) -> dict[str, np.ndarray]:
    """Converts arrays to the shapes of the leaves of the same names, as far as possible."""
    fitted = dict(arrays)
    for name in leaves.keys() & arrays.keys():
        shape = leaves[name].shape
        if np.squeeze(arrays[name]).shape == shape:  # 1 x 1 convolutions are linear layers
            fitted[name] = arrays[name].reshape(shape)
        elif mapping and arrays[name].shape != shape:
            fitted[name] = mapping.fit_shape(name, arrays[name], shape)
    return fitted


def _match_torch_names(names: Iterable[str], mapping: TorchMapping) -> dict[str, str]:
    """Returns name in the model -> name in PyTorch or in the result of `order_outputs`."""
    torch_names = {}
    for name in names:
        part, *layers, leaf = name.split(".")[1:]
        torch_name = ".".join([*layers, TORCH_LEAVES.get(leaf, leaf)])
        if part == "trunk":
            torch_names[name] = mapping.to_torch_name(torch_name)
        else:
            head = mapping.head if part == "expression" else f"{mapping.head}.{part}"
            torch_names[name] = f"{head}.{torch_name}"
    return torch_names


def _to_our_layout(torch_name: str, array: np.ndarray, mapping: TorchMapping) -> np.ndarray:
    """PyTorch's axes are (outputs, inputs, rows, columns) or (outputs, inputs)."""
    array = mapping.reorder_axes(torch_name, array)
    axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
    return array.transpose(axes) if axes else array


def _to_finite_float32(array: np.ndarray, name: str, source: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; checked below
        values = np.array(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise UserError(f"init_from = {source!r}: {name} has values that are not finite")
    return values


def _is_in_trunk(name: str) -> bool:
    return name.split(".")[1:2] == ["trunk"]
