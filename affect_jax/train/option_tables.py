"""Markdown tables of all config keys and of the options of every registered component.

The meanings are those of docstrings and of the comments in `config.defaults`; `docs/options.md` has
all tables: `python -m affect_jax.main --list=all > docs/options.md`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Any

from affect_jax import config
from affect_jax.config_checks import SUPPLIED_ARGUMENTS
from affect_jax.core.registry import Registry
from affect_jax.train.experiment import load_registries

TABLES = {
    "datasets": ("dataset", "`config.data.name`; options in `config.data.options`"),
    "samplers": ("sampling", "`config.sampling`"),
    "label_noise": ("label_noise", "`config.data.label_noise`, whose key for the name is `kind`"),
    "augmentations": ("augmentation", "`config.data.augment`, a tuple"),
    "trunks": ("trunk", "`config.trunk`"),
    "heads": ("head", "`config.heads`, a tuple of names"),
    "losses": ("loss", "`config.losses`, a tuple"),
    "schedules": ("schedule", "`config.schedule`"),
    "optimizers": ("optimizer", "`config.optimizer`"),
    "loggers": ("logger", "`config.loggers`, a tuple of names"),
}
"""Table -> kind of registry, and the key that names its entries."""

ARGUMENT = re.compile(  # of a list or of a sentence, in a docstring
    r"(?:^- |\*\*Arguments:\*\* |; )((?:`\w+`(?:, )?)+): "
    r"(.+?)(?=\n- |\n\n|\Z|; (?:`\w+`(?:, )?)+:)",
    re.M | re.S,
)


def format_tables(name: str) -> str:
    """Formats a table of `TABLES`, that of `config`, or `all`: the page docs/options.md."""
    if name == "config":
        return f"## config\n\n{_to_markdown(('key', 'default', 'meaning'), _list_keys())}"
    if name == "all":
        intro = (
            "# Options\n\nEvery key of a config, and every component that it can name with its "
            "options; a default `required` means that there is none. This page is the output of "
            "`python -m affect_jax.main --list=all`; `--list=losses` prints one table. "
            "[Adding a model or a loss](extending.md) describes your own entries.\n"
        )
        return "\n".join([intro, *map(format_tables, ("config", *TABLES))])
    kind, key = TABLES[name]
    rows = _list_entries(load_registries()[kind], {*SUPPLIED_ARGUMENTS.get(kind, {})})
    headers = ("name", "option", "default", "meaning")
    return f"## {name}\n\n{key}\n\n{_to_markdown(headers, rows)}"


def _to_markdown(headers: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [headers, ("---",) * len(headers), *rows]
    cells = [[" ".join(cell.replace("|", "\\|").split()) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells)


def _list_keys() -> list[tuple[str, ...]]:
    """Lists key, default and comment of each line of the functions that set the defaults."""
    rows, comment = [], ""
    source = inspect.getsource(config.defaults) + inspect.getsource(config._data_defaults)
    for line in source.splitlines():
        code, _, text = line.strip().partition("# ")
        if not code:
            comment += f"{text} "
            continue
        is_section = re.fullmatch(r"config\.\w+ = (ConfigDict|_data_defaults)\(\) *", code)
        if (match := re.match(r"(?:config\.)?([\w.]+) = ", code)) and not is_section:
            value: Any = config.defaults()
            for part in match[1].split("."):
                value = value[part]
            plain = config.to_dict(value)
            default = tuple(plain) if isinstance(value, tuple) else plain
            meaning = "; ".join(filter(None, (comment.strip(" ."), text)))
            rows.append((f"`{match[1]}`", f"`{default!r}`", meaning))
        comment = ""
    return rows


def _list_entries(registry: Registry, supplied: set[str]) -> list[tuple[str, ...]]:
    """Lists the entries of a registry, each followed by its options."""
    meanings = {name: _read_meanings(registry[name]) for name in registry.names()}
    shared = {key: text for entry in meanings.values() for key, text in entry.items()}
    shared |= meanings.get("affectnet", {})  # its options are those of most datasets
    rows = []
    for name in registry.names():
        entry = registry[name]
        summary = inspect.cleandoc(entry.__doc__ or "").split("\n\n")[0]
        rows.append((f"**`{name}`**", "", "", summary))
        for option in inspect.signature(entry).parameters.values():
            if option.name in {"parent", "name", "manual_dir", "num_classes", *supplied}:
                continue
            default = "required" if option.default is option.empty else f"`{option.default!r}`"
            meaning = meanings[name].get(option.name) or shared.get(option.name, "")
            rows.append(("", f"`{option.name}`", default, meaning))
    return rows


def _read_meanings(entry: Any) -> dict[str, str]:
    """Reads the meaning of each option from the docstrings of a function, or of a class."""
    meanings: dict[str, str] = {}
    for owner in reversed(entry.__mro__ if isinstance(entry, type) else [entry]):
        for names, text in ARGUMENT.findall(inspect.cleandoc(owner.__doc__ or "")):
            if not re.fullmatch(r"see `\w+`\.?", text):  # that class has the text
                meanings |= dict.fromkeys(re.findall(r"\w+", names), text)
    return meanings
