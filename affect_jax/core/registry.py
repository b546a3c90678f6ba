"""Named choices: a dictionary filled by a decorator, whose errors list what there is."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin

from affect_jax.core.errors import UserError

T = TypeVar("T")


class Registry:
    """What can be named in a config: `TRUNKS`, `LOSSES`, `DATASETS`, ...

    An entry is a class or a function; its keyword arguments are its options.

    **Arguments:**

    - `kind`: what an entry is, for messages ("trunk", "loss").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Callable] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters an object under `name`; `ValueError` where the name is taken."""

        def enter(entry: T) -> T:
            if name in self._entries:
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry  # pyright: ignore[reportArgumentType]
            return entry

        return enter

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> Callable:
        if name not in self._entries:
            raise UserError(f"{self.kind} {unknown(name, self.names())}")
        return self._entries[name]

    def create(self, spec: Mapping[str, Any], **fixed: Any) -> Any:
        """Calls the entry `spec["name"]` with its other keys and `fixed` as keyword arguments.

        **Raises:** `UserError` for an unknown name or option.
        """
        problems = self.problems(spec, fixed)
        if problems:
            raise UserError(f"{self.kind}: {problems[0]}", problems[1:])
        options = {key: value for key, value in spec.items() if key != "name"}
        return self[spec["name"]](**options, **fixed)

    def problems(self, spec: Mapping[str, Any], fixed: Iterable[str] = ()) -> list[str]:
        """What is wrong with a spec `{"name": ..., option: value, ...}`; empty when nothing is.

        **Arguments:**

        - `fixed`: keyword arguments that the caller supplies and a config may not.
        """
        if "name" not in spec:
            return [f"name is missing; one of: {', '.join(self.names())}"]
        if spec["name"] not in self:
            return [f"name = {unknown(spec['name'], self.names())}"]
        supplied = {"self", "parent", *fixed}  # linen adds `parent` and `name` to every module
        parameters = inspect.signature(self[spec["name"]]).parameters.values()
        known = [p.name for p in parameters if p.name not in supplied | {"name"}]
        required = {p.name for p in parameters if p.default is p.empty and p.kind != p.VAR_KEYWORD}
        given = [key for key in spec if key != "name"]
        found = [
            f"{key}: {spec['name']} has no such option; {nearest(key, known)}"
            for key in given
            if key not in known
        ]
        found += [f"{key}: missing" for key in known if key in required and key not in given]
        return found

    def mistyped(self, spec: Mapping[str, Any]) -> list[str]:
        """Options of a spec without `problems` whose values are of another type than declared."""
        parameters = inspect.signature(self[spec["name"]], eval_str=True).parameters
        return [
            f"{key} = {value!r}: must be {wanted(parameters[key].annotation)}"
            for key, value in spec.items()
            if key != "name" and not fits(value, parameters[key].annotation)
        ]


_PLAIN = {"bool": bool, "int": int, "float": float, "str": str}  # linen leaves them as text


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from a config is of an option's type; types that no config holds, fit."""
    hint = _PLAIN.get(hint, hint) if isinstance(hint, str) else hint
    if isinstance(hint, types.UnionType):
        return any(fits(value, one) for one in get_args(hint))
    if hint in (None, types.NoneType):
        return value is None
    if hint in (bool, str, list, dict):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, (int, hint)) and not isinstance(value, bool)
    if get_origin(hint) is Sequence:
        return isinstance(value, (list, tuple)) and all(fits(one, *get_args(hint)) for one in value)
    if get_origin(hint) is Mapping:
        hold = get_args(hint)[1]
        return isinstance(value, Mapping) and all(fits(one, hold) for one in value.values())
    return True


def wanted(hint: Any) -> str:
    """`float or None`, `a tuple of str`: an option's type in words."""
    if isinstance(hint, types.UnionType):
        return " or ".join(wanted(one) for one in get_args(hint))
    if get_origin(hint) is Sequence:
        return f"a tuple of {wanted(*get_args(hint))}"
    if get_origin(hint) is Mapping:
        return "a mapping"
    return "None" if hint is types.NoneType else hint if isinstance(hint, str) else hint.__name__


def unknown(name: object, known: Iterable[str]) -> str:
    """`'alexnt': unknown; did you mean 'alexnet'? Known: alexnet, resnet18`."""
    known = list(known)
    close = difflib.get_close_matches(str(name), known, n=1)
    guess = f"did you mean {close[0]!r}? " if close else ""
    return f"{name!r}: unknown; {guess}Known: {', '.join(known)}"


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean 'width'?` or, where nothing is near, the list of what is known."""
    known = list(known)
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def load_all(package: str) -> None:
    """Imports every module of a package, in sorted order, so that a new file is registered."""
    path = importlib.import_module(package).__path__
    for name in sorted(module.name for module in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{name}")
