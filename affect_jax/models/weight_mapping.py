"""Loads weights from a file into a model: weights of a PyTorch network or of this package.

The names and shapes of all arrays of the trunk must match, otherwise `load` raises `UserError`. A
head is loaded if its number of outputs matches; otherwise it keeps its initial values.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.models.base import TORCH_MAPPINGS

TORCH_PARAMETERS = {"kernel": "weight", "scale": "weight", "bias": "bias"}
TORCH_STATISTICS = {"mean": "running_mean", "var": "running_var"}
UNUSED_LEAF = "num_batches_tracked"  # PyTorch's counter, unused with a fixed momentum
MAX_SHOWN_PROBLEMS = 3  # a message counts the remaining ones


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Which weights of a file were loaded into a model.

    **Arguments:**

    - `source`: the file.
    - `loaded`: name in the model -> name in the file.
    - `initialised`: names in the model that keep their initial values (heads).
    - `unused`: names in the file that were not loaded (its head).
    - `sizes`: number of elements of each array, by the names above.
    """

    source: str
    loaded: dict[str, str]
    initialised: tuple[str, ...]
    unused: tuple[str, ...]
    sizes: dict[str, int]

    def table(self) -> str:
        """A table with a row per module of the model and per unused layer of the file."""
        from tabulate import tabulate  # imported here: building a network needs only JAX and flax

        rows = []
        for module in dict.fromkeys(
            _module_name(name) for name in (*self.loaded, *self.initialised)
        ):
            loaded = [name for name in self.loaded if _module_name(name) == module]
            initialised = [name for name in self.initialised if _module_name(name) == module]
            origin = _common_prefix(self.loaded[name] for name in loaded) if loaded else "fresh"
            rows.append([module, *self._count(loaded or initialised), origin])
        for layer in dict.fromkeys(name.rpartition(".")[0] for name in self.unused):
            names = [name for name in self.unused if name.rpartition(".")[0] == layer]
            rows.append(["(none)", *self._count(names), f"{layer}, not used"])
        headers = ["part of the model", "arrays", "numbers", "from"]
        table = tabulate(rows, headers, colalign=("left", "right", "right", "left"))
        return f"Weights of {self.source}:\n{table}"

    def _count(self, names: list[str]) -> tuple[str, str]:
        return f"{len(names):,}", f"{sum(self.sizes[name] for name in names):,}"


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
    if any(name.startswith("params.") for name in arrays):
        candidates, source_names = _match_own_names(arrays, params, batch_stats)
    else:
        candidates, source_names = _match_torch_names(arrays, params, batch_stats, trunk, source)
    leaves = flatten_by_name(params, batch_stats)
    problems = list(_find_problems(arrays, leaves, candidates, source_names))
    if problems:
        raise _mismatch_error(arrays, trunk, source, problems)
    file_order = {name: i for i, name in enumerate(arrays)}
    loadable = [name for name in leaves if _is_loadable(name, leaves, candidates)]
    loaded = {
        name: source_names[name]
        for name in sorted(loadable, key=lambda name: file_order[source_names[name]])
    }
    values = {
        name: _to_finite_float32(name, candidates[name], source) if name in loaded else leaf
        for name, leaf in leaves.items()
    }
    treedef = jax.tree.structure({"params": params, "batch_stats": batch_stats})
    tree = jax.tree.unflatten(treedef, list(values.values()))
    used_names = set(loaded.values())
    unused = tuple(name for name in arrays if name not in used_names and not _is_ignored(name))
    report = LoadReport(
        source,
        loaded,
        initialised=tuple(name for name in leaves if name not in loaded),
        unused=unused,
        sizes={name: int(np.size(leaf)) for name, leaf in leaves.items()}
        | {name: int(np.size(arrays[name])) for name in unused},
    )
    return tree["params"], tree["batch_stats"], report


ArraysByName = dict[str, np.ndarray]  # arrays in our layout, by our names
SourceNames = dict[str, str]  # our name -> name in the file


def _match_own_names(
    arrays: Mapping[str, np.ndarray], *trees: Any
) -> tuple[ArraysByName, SourceNames]:
    names = flatten_by_name(*trees)
    return {name: arrays[name] for name in names if name in arrays}, {name: name for name in names}


def _match_torch_names(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any, trunk: str, source: str
) -> tuple[ArraysByName, SourceNames]:
    """Converts arrays of a PyTorch file to our layout; its classifier becomes `expression`."""
    if trunk not in TORCH_MAPPINGS:
        supported = ", ".join(sorted(TORCH_MAPPINGS))
        raise UserError(
            f"init_from = {source!r}: trunk {trunk!r} cannot load PyTorch weights"
            f"{_suggest_trunk(arrays, trunk)}; supported trunks: {supported}"
        )
    mapping = TORCH_MAPPINGS[trunk]
    candidates, source_names = {}, {}
    for name in flatten_by_name(params, batch_stats):
        collection, rest = name.split(".", 1)
        layer, leaf = rest.rsplit(".", 1)
        if layer == "expression":
            torch_layer = mapping.head
        elif layer.startswith("trunk."):
            torch_layer = mapping.to_torch_layer(layer.removeprefix("trunk."))
        else:
            continue
        torch_leaves = TORCH_PARAMETERS if collection == "params" else TORCH_STATISTICS
        torch_name = f"{torch_layer}.{torch_leaves[leaf]}"
        source_names[name] = torch_name
        if torch_name in arrays:
            array = mapping.reorder_axes(torch_name, arrays[torch_name])
            # PyTorch's axes are (outputs, inputs, rows, columns) or (outputs, inputs).
            axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
            candidates[name] = array.transpose(axes) if axes else array
    return candidates, source_names


def _is_loadable(name: str, leaves: Mapping[str, Any], candidates: ArraysByName) -> bool:
    """Whether an array can be loaded; all arrays of a head must match."""
    module = _module_name(name)
    return all(
        other_name in candidates and candidates[other_name].shape == leaf.shape
        for other_name, leaf in leaves.items()
        if other_name == name
        or (not module.startswith("trunk.") and _module_name(other_name) == module)
    )


def _find_problems(
    arrays: Mapping[str, np.ndarray],
    leaves: Mapping[str, Any],
    candidates: ArraysByName,
    source_names: SourceNames,
) -> Iterable[str]:
    """Yields the mismatches between trunk and file: missing, extra, other shape or other dtype."""
    head_layers = {
        _layer_name(source_names[name]) for name in source_names if not _is_in_trunk(name)
    }
    for name in sorted(leaves, key=lambda name: name.startswith("batch_stats.")):
        leaf = leaves[name]
        if not _is_in_trunk(name):
            continue
        if name not in candidates:
            yield f"{source_names[name]}: not in the file; {_without_collection(name)} needs it"
        elif candidates[name].shape != leaf.shape:
            shape = list(arrays[source_names[name]].shape)
            expected = f"{_without_collection(name)} is {list(leaf.shape)} in the model"
            yield f"{source_names[name]} is {shape}; {expected}"
        elif candidates[name].dtype.kind not in "fV":  # V: bfloat16
            yield f"{source_names[name]} holds {candidates[name].dtype}, not real numbers"
    expected_names = set(source_names.values())
    for name in arrays:
        in_head = _layer_name(name) in head_layers or (
            name.startswith("params.") and not _is_in_trunk(name)
        )
        if name not in expected_names and not in_head and not _is_ignored(name):
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


def _to_finite_float32(name: str, array: np.ndarray, source: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite; checked below
        values = np.array(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise UserError(
            f"init_from = {source!r}: {_without_collection(name)} has values that are not finite"
        )
    return values


def _is_in_trunk(name: str) -> bool:
    return _without_collection(name).startswith("trunk.")


def _without_collection(name: str) -> str:
    return name.split(".", 1)[1]


def _module_name(name: str) -> str:
    """`params.trunk.stem.conv.kernel` -> `trunk.stem`; `params.expression.bias` -> `expression`."""
    _, first, *rest = name.split(".")
    return f"trunk.{rest[0]}" if first == "trunk" else first


def _layer_name(name: str) -> str:
    return name.rpartition(".")[0]


def _is_ignored(name: str) -> bool:
    return name.endswith(f".{UNUSED_LEAF}")


def _common_prefix(names: Iterable[str]) -> str:
    """`layer1.0` for the layers of that block; `conv1, bn1` for the two layers of the stem."""
    names_in_model = [name.removeprefix("params.").removeprefix("batch_stats.") for name in names]
    layers = list(dict.fromkeys(map(_layer_name, names_in_model)))
    return os.path.commonprefix(layers).rpartition(".")[0] if len(layers) > 2 else ", ".join(layers)
