"""Registries of named components: a dictionary and a decorator; errors list the choices."""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import pkgutil
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from absl import logging

from affect_jax.core.errors import UserError, first_line

Entry = TypeVar("Entry")
Requirement = tuple[Callable[[Any], bool], str]  # of a numeric option, and its description

MAX_OPTION = 1e30  # float32 holds it
NOT_NEGATIVE: Requirement = (lambda v: v >= 0, "0 or more")
POSITIVE: Requirement = (lambda v: v > 0, "positive")
AT_LEAST_1: Requirement = (lambda v: v >= 1, "1 or more")
SHARE: Requirement = (lambda v: 0 <= v < 1, "in [0, 1)")


class Registry:
    """Components that a config selects by name: `TRUNKS`, `LOSSES`, `DATASETS`, ...

    An entry is a class or a function; its keyword arguments are its options.

    **Arguments:** `kind`: what an entry is, for error messages ("trunk", "loss").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._entries: dict[str, Callable] = {}

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """Returns a decorator that registers an object; raises `ValueError` for a taken name.

        The same object may be registered again by a second import of its file: a config file is
        not imported under the name that `config.imports` has for it.
        """

        def decorator(entry: Entry) -> Entry:
            if name in self._entries and _find_origin(self._entries[name]) != _find_origin(entry):
                raise ValueError(f"{self.kind} {name!r} is registered twice")
            self._entries[name] = entry  # pyright: ignore[reportArgumentType]
            return entry

        return decorator

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._entries

    def __getitem__(self, name: str) -> Callable:
        if name not in self._entries:
            raise UserError(f"{self.kind} {self.describe_unknown(name)}")
        return self._entries[name]

    def describe_unknown(self, name: object) -> str:
        """Like `describe_unknown_name`, with a hint for names from the user's own modules."""
        text = describe_unknown_name(name, self.names())
        return f"{text}; config.imports lists the modules of your own entries"

    def create(self, spec: Mapping[str, Any], **supplied: Any) -> Any:
        """Calls the entry `spec["name"]` with its other keys as keyword arguments.

        **Arguments:** `supplied`: further keyword arguments; an entry receives those that it has.

        **Raises:** `UserError` for an unknown name or option, or a value of the wrong type.
        """
        if problems := self.find_problems(spec, supplied):
            raise UserError(f"{self.kind}: {problems[0]}", problems[1:])
        entry = self[spec["name"]]
        options = {key: value for key, value in spec.items() if key != "name"}
        parameters = inspect.signature(entry).parameters
        return entry(**options, **{key: supplied[key] for key in supplied.keys() & parameters})

    def find_problems(self, spec: Mapping[str, Any], supplied: Iterable[str] = ()) -> list[str]:
        """Returns the problems of a spec `{"name": ..., option: value, ...}`.

        **Arguments:** `supplied`: keyword arguments that the caller supplies and a config may not
        set.
        """
        if not hasattr(spec, "get"):  # ConfigDict is no Mapping
            return [f"name: missing; {spec!r} must be {{'name': ..., option: value, ...}}"]
        if (name := spec.get("name")) not in self:
            return [f"name = {self.describe_unknown(name)}"]
        entry = self[spec["name"]]
        excluded = {"parent", "name", *supplied}  # linen adds the first two to every module
        options = {
            key: parameter
            for key, parameter in inspect.signature(entry).parameters.items()
            if key not in excluded and parameter.kind != parameter.VAR_KEYWORD
        }
        option_types, problems = _option_types(entry), []
        for key in [key for key in spec if key != "name"]:
            if key not in options:
                known = suggest_name(key, options)
                problems.append(f"{key}: {name} has no such option; {known}")
            elif not matches_type(spec[key], option_types.get(key, Any)):
                expected = inspect.formatannotation(option_types[key])
                expected = expected.replace("collections.abc.", "")
                problems.append(f"{key} = {spec[key]!r}: must be {expected}")
        required = {key for key, option in options.items() if option.default is option.empty}
        return problems + [f"{key}: missing" for key in sorted(required - set(spec))]


def _option_types(entry: Any) -> dict[str, Any]:
    """Types of keyword arguments; `Any` for a name that is imported for type checkers only."""
    unknown: dict[str, Any] = {}
    while True:
        try:
            return get_type_hints(entry, localns=unknown)
        except NameError as error:
            unknown[str(error.name)] = Any
        except (AttributeError, TypeError):  # of such a name: Sequence[int], np.ndarray
            return {}  # options of any type are accepted


def _find_origin(entry: Any) -> tuple[Any, str]:
    """The file and the name of a class or function; unique if it has no file."""
    file = getattr(sys.modules.get(entry.__module__), "__file__", None)
    return file and os.path.realpath(file) or entry, entry.__qualname__


def matches_type(value: Any, annotation: Any) -> bool:
    """Whether a config value has an option's type; types that a config cannot hold always match."""
    arguments = get_args(annotation)
    if isinstance(annotation, types.UnionType):
        return any(matches_type(value, choice) for choice in arguments)
    if get_origin(annotation) is Sequence:
        is_sequence = isinstance(value, (list, tuple))
        return is_sequence and all(matches_type(element, *arguments) for element in value)
    if get_origin(annotation) is Mapping:
        is_mapping = isinstance(value, Mapping)
        return is_mapping and all(matches_type(v, arguments[1]) for v in value.values())
    if annotation in (int, float):
        return isinstance(value, (int, annotation)) and not isinstance(value, bool)
    if annotation in (bool, str, list, dict, types.NoneType):
        return isinstance(value, annotation)
    return True


def describe_unknown_name(name: object, names: Iterable[str]) -> str:
    """Returns `'alexnt': unknown; did you mean 'alexnet'? Known: alexnet, resnet18`."""
    return f"{name!r}: unknown; {suggest_name(name, names)}"


def suggest_name(name: object, names: Iterable[str]) -> str:
    """Returns `did you mean 'alexnet'? Known: alexnet, resnet18`."""
    names = list(names)
    matches = difflib.get_close_matches(str(name)[:100], names, n=1)
    suggestion = f"did you mean {matches[0]!r}? " if matches else ""
    return f"{suggestion}Known: {', '.join(names)}"


def import_submodules(package: str) -> None:
    """Imports every module of a package, in sorted order, so that its entries are registered."""
    path = importlib.import_module(package).__path__
    for name in sorted(module.name for module in pkgutil.iter_modules(path)):
        importlib.import_module(f"{package}.{name}")


def import_modules(names: Iterable[str]) -> None:
    """Imports the modules of `config.imports`, which register the user's own entries.

    Importing a module executes its code. The names come from the config of the user, or of a run
    that the user passes.

    **Raises:** `UserError` if one of them cannot be imported.
    """
    for name in names:
        try:
            if name not in sys.modules:
                logging.warning("importing %s, which config.imports lists", name)
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            frames = traceback.extract_tb(error.__traceback__)[2:]  # without this and importlib's
            places = [f"{f.filename}, line {f.lineno}: " for f in frames if f.filename[0] != "<"]
            place = places[0] if places else ""
            raise UserError(
                f"imports: {name!r} cannot be imported ({place}{type(error).__name__}: "
                f"{first_line(error)}); modules are found in the current folder, on PYTHONPATH and "
                "among installed packages"
            ) from error


def require_option(
    option: str, value: Any, is_valid: Callable[[Any], bool], requirement: str
) -> None:
    """Checks the value of a numeric option.

    **Arguments:** `option`: its name, for the message, such as `optimizer.momentum`.

    **Raises:** `UserError` unless it is a number below `MAX_OPTION` for which `is_valid` holds.
    """
    if not (matches_type(value, float) and abs(value) < MAX_OPTION and is_valid(value)):
        raise UserError(f"{option} = {value!r}: must be {requirement}")
