"""Weights from elsewhere put into a model: PyTorch's under their names there, and our own.

Only arrays enter: names and shapes must be those of the trunk, all of them, or it is an error.
Heads are taken over where they have as many outputs, else they stay as they were initialised.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from affect_jax.core.errors import UserError
from affect_jax.models.base import PEERS

LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}
STATISTICS = {"mean": "running_mean", "var": "running_var"}
UNUSED_LEAF = "num_batches_tracked"  # PyTorch's counter; nothing reads it at a fixed momentum
SHOWN = 3  # problems; the others are counted


@dataclasses.dataclass(frozen=True)
class Report:
    """What came of a file's weights.

    **Arguments:**

    - `source`: the file.
    - `loaded`: name here -> name in the file.
    - `fresh`: names of what kept its initial values: heads.
    - `unmatched`: names in the file that nothing here took: its head.
    - `sizes`: numbers in each array, by the names above.
    """

    source: str
    loaded: dict[str, str]
    fresh: tuple[str, ...]
    unmatched: tuple[str, ...]
    sizes: dict[str, int]

    def table(self) -> str:
        """A row for each part of the model and each layer that was left in the file."""
        from tabulate import tabulate  # networks can be had where only JAX and flax are

        rows = []
        for part in dict.fromkeys(_part(name) for name in (*self.loaded, *self.fresh)):
            loaded = [name for name in self.loaded if _part(name) == part]
            fresh = [name for name in self.fresh if _part(name) == part]
            origin = _common(self.loaded[name] for name in loaded) if loaded else "fresh"
            rows.append([part, *self._amount(loaded or fresh), origin])
        for layer in dict.fromkeys(name.rpartition(".")[0] for name in self.unmatched):
            names = [name for name in self.unmatched if name.rpartition(".")[0] == layer]
            rows.append(["(none)", *self._amount(names), f"{layer}, not used"])
        headers = ["part of the model", "arrays", "numbers", "from"]
        table = tabulate(rows, headers, colalign=("left", "right", "right", "left"))
        return f"Weights of {self.source}:\n{table}"

    def _amount(self, names: list[str]) -> tuple[str, str]:
        return f"{len(names):,}", f"{sum(self.sizes[name] for name in names):,}"


def named(params: Any, batch_stats: Any) -> dict[str, Any]:
    """`{"params.trunk.stem.conv.kernel": leaf, ...}`: our own names in a file of weights.

    Such a `.safetensors` file can be loaded again. `load` goes by these names wherever one begins
    with `params.`; other files are taken for PyTorch's.
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
) -> tuple[Any, Any, Report]:
    """A model's parameters and batch statistics with a file's values in them.

    **Arguments:**

    - `arrays`: what `weight_files.read` returns, or arrays under our own names, see `named`.
    - `params`, `batch_stats`: of a freshly initialised model; nothing in them is changed.
    - `trunk`: its name in the registry.
    - `source`: what the file is called in messages.

    **Returns:**

    Both trees, float32 NumPy arrays where they are loaded, and what was taken from where.

    **Raises:** `UserError` where the file is of another network, or a value is not finite.
    """
    if any(name.startswith("params.") for name in arrays):
        offered, where = _ours(arrays, params, batch_stats)
    else:
        offered, where = _torch(arrays, params, batch_stats, trunk, source)
    wanted = named(params, batch_stats)
    problems = list(_problems(arrays, wanted, offered, where))
    if problems:
        raise _misfit(arrays, trunk, source, problems)
    order = {name: i for i, name in enumerate(arrays)}
    taken = [name for name in wanted if _fits(name, wanted, offered)]
    loaded = {name: where[name] for name in sorted(taken, key=lambda name: order[where[name]])}
    values = {
        name: _finite(name, offered[name], source) if name in loaded else leaf
        for name, leaf in wanted.items()
    }
    treedef = jax.tree.structure({"params": params, "batch_stats": batch_stats})
    tree = jax.tree.unflatten(treedef, list(values.values()))
    used = set(loaded.values())
    unmatched = tuple(name for name in arrays if name not in used and not _ignored(name))
    report = Report(
        source,
        loaded,
        fresh=tuple(name for name in wanted if name not in loaded),
        unmatched=unmatched,
        sizes={name: int(np.size(leaf)) for name, leaf in wanted.items()}
        | {name: int(np.size(arrays[name])) for name in unmatched},
    )
    return tree["params"], tree["batch_stats"], report


Offered = dict[str, np.ndarray]  # values in our layout, by our names
Where = dict[str, str]  # our names -> the file's


def _ours(arrays: Mapping[str, np.ndarray], *trees: Any) -> tuple[Offered, Where]:
    names = named(*trees)
    return {name: arrays[name] for name in names if name in arrays}, {name: name for name in names}


def _torch(
    arrays: Mapping[str, np.ndarray], params: Any, batch_stats: Any, trunk: str, source: str
) -> tuple[Offered, Where]:
    """A PyTorch file's arrays in our layout; the classifier is offered to the head `expression`."""
    if trunk not in PEERS:
        raise UserError(
            f"init_from = {source!r}: no weights of PyTorch are known for trunk {trunk!r}"
            f"{_hint(arrays, trunk)}; there are some for {', '.join(sorted(PEERS))}"
        )
    peer = PEERS[trunk]
    offered, where = {}, {}
    for name in named(params, batch_stats):
        kind, rest = name.split(".", 1)
        layer, leaf = rest.rsplit(".", 1)
        if layer == "expression":
            theirs = peer.head
        elif layer.startswith("trunk."):
            theirs = peer.layer(layer.removeprefix("trunk."))
        else:
            continue
        other = f"{theirs}.{LEAVES[leaf] if kind == 'params' else STATISTICS[leaf]}"
        where[name] = other
        if other in arrays:
            array = peer.arrange(other, arrays[other])
            # Convolutions: outputs, inputs, rows, columns; linear layers: outputs, inputs.
            axes = {4: (2, 3, 1, 0), 2: (1, 0)}.get(array.ndim)
            offered[name] = array.transpose(axes) if axes else array
    return offered, where


def _fits(name: str, wanted: Mapping[str, Any], offered: Offered) -> bool:
    """Whether an array is taken over; a head is only as a whole."""
    part = _part(name)
    return all(
        other in offered and offered[other].shape == leaf.shape
        for other, leaf in wanted.items()
        if other == name or (not part.startswith("trunk.") and _part(other) == part)
    )


def _problems(
    arrays: Mapping[str, np.ndarray], wanted: Mapping[str, Any], offered: Offered, where: Where
) -> Iterable[str]:
    """Where the file's trunk is not the model's: missing, of another shape or type, or too many."""
    heads = {_layer(where[name]) for name in where if not _of_trunk(name)}
    for name in sorted(wanted, key=lambda name: name.startswith("batch_stats.")):
        leaf = wanted[name]
        if not _of_trunk(name):
            continue
        if name not in offered:
            yield f"{where[name]}: not in the file; {_short(name)} needs it"
        elif offered[name].shape != leaf.shape:
            shape = list(arrays[where[name]].shape)
            yield f"{where[name]} is {shape}; {_short(name)} is {list(leaf.shape)} here"
        elif offered[name].dtype.kind not in "fV":  # V: bfloat16
            yield f"{where[name]} holds {offered[name].dtype}, not real numbers"
    known = set(where.values())
    for name in arrays:
        of_head = _layer(name) in heads or (name.startswith("params.") and not _of_trunk(name))
        if name not in known and not of_head and not _ignored(name):
            yield f"{name}: the model has no place for it"


def _misfit(
    arrays: Mapping[str, np.ndarray], trunk: str, source: str, problems: list[str]
) -> UserError:
    fits = f" ({PEERS[trunk].name}: {PEERS[trunk].fits})" if trunk in PEERS else ""
    shown = problems[:SHOWN]
    if len(problems) > SHOWN:
        shown.append(f"and {len(problems) - SHOWN:,} more")
    hint = _hint(arrays, trunk)
    return UserError(f"init_from = {source!r}: not of trunk {trunk!r}{fits}{hint}", shown)


def _hint(arrays: Mapping[str, np.ndarray], trunk: str) -> str:
    for other, peer in PEERS.items():
        if other != trunk and peer.mark in arrays:
            return f"; it looks like {peer.name}, which is trunk.name = {other!r}"
    return ""


def _finite(name: str, array: np.ndarray, source: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite and is told below
        values = np.array(array, np.float32, order="C")
    if not np.isfinite(values).all():
        raise UserError(f"init_from = {source!r}: {_short(name)} has values that are not finite")
    return values


def _of_trunk(name: str) -> bool:
    return _short(name).startswith("trunk.")


def _short(name: str) -> str:
    return name.split(".", 1)[1]


def _part(name: str) -> str:
    """`params.trunk.stem.conv.kernel` -> `trunk.stem`; `params.expression.bias` -> `expression`."""
    _, first, *rest = name.split(".")
    return f"trunk.{rest[0]}" if first == "trunk" else first


def _layer(name: str) -> str:
    return name.rpartition(".")[0]


def _ignored(name: str) -> bool:
    return name.endswith(f".{UNUSED_LEAF}")


def _common(names: Iterable[str]) -> str:
    """`layer1.0` for its two convolutions and norms, `conv1, bn1` for the stem."""
    bare = [name.removeprefix("params.").removeprefix("batch_stats.") for name in names]
    layers = list(dict.fromkeys(map(_layer, bare)))
    return os.path.commonprefix(layers).rpartition(".")[0] if len(layers) > 2 else ", ".join(layers)
