"""The training command: parses flags and runs one of the modes train, evaluate, prepare and import.

python -m affect_jax.main --config=configs/alexnet_weighted.py --workdir=runs/weighted
python -m affect_jax.main --mode=evaluate --workdir=runs/weighted --checkpoint=best
"""

from __future__ import annotations

import copy
import os
import pathlib
import re
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from absl import flags, logging
from ml_collections import ConfigDict, config_flags
from ml_collections.config_flags import config_path

from affect_jax.config import MUTABLE_KEYS
from affect_jax.core import env_vars
from affect_jax.core.cli import handle_cli_errors
from affect_jax.core.errors import UserError, first_line
from affect_jax.core.lossy_streams import LossyStream

if TYPE_CHECKING:
    from affect_jax.run.workdir import Workdir

TABLES = [
    *("all", "config", "datasets", "samplers", "label_noise", "augmentations", "trunks"),
    *("heads", "losses", "schedules", "optimizers", "loggers"),
]
SAVED_CONFIG = pathlib.Path(__file__).with_name("run") / "workdir.py"
EXIT_SECONDS = 30  # for the exit of the interpreter


@handle_cli_errors
def main(argv: Sequence[str]) -> int:
    """Runs the command.

    **Arguments:** `argv`: the flags; by default those of this process.

    **Returns:** the exit code: 0; 1 or 2 after an error, see `handle_cli_errors`; or 128 + the
    number of a signal that stopped training.
    """
    values = parse_flags(argv)
    if values.help:
        print(f"{__doc__}\n{values.get_help()}")
        return 0
    if values.list:
        from affect_jax.train.option_tables import format_tables

        print(format_tables(values.list), end="")
        return 0
    if not values["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax logs every file at INFO
    try:
        return _dispatch(values)
    except (RuntimeError, ValueError) as error:  # a collective of Gloo may raise either
        from jax.errors import JaxRuntimeError

        from affect_jax.core import processes

        is_lost = isinstance(error, JaxRuntimeError) or "Gloo" in str(error)
        if is_lost and processes.is_multiprocess():
            raise UserError(
                "A process of this run failed. Restart all processes with the same command to "
                f"resume from the last checkpoint ({first_line(error)})."
            ) from error
        raise


def parse_flags(argv: Sequence[str]) -> flags.FlagValues:
    """Parses the flags.

    **Raises:** `UserError` for a wrong flag or a config file that cannot be read.
    """
    try:
        argv = _add_saved_config(argv)
        values = _define_flags(argv)  # reads a --flagfile
        remaining = values(["affect_jax.main", *argv])
        if values["config"].present:
            _ = values.config.seed  # an unreadable file raises on the first access
            _clear_replaced_options(values)
    except UserError:
        raise
    except Exception as error:  # a config file may raise any exception
        message = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
        if raised := _find_config_error(error, argv):
            raise UserError(raised) from error
        if isinstance(error, (KeyError, IndexError, TypeError)):
            reason = " ".join(str(error.args[0] if error.args else error).split())
            message = (
                f"a flag changes a key that does not exist ({reason}); an option that the config "
                "does not set yet is set as a whole, such as "
                "--config.optimizer.rates=\"{'trunk': 0.1}\""
            )
        elif "as a ConfigDict" in message:
            flag = message.split(" as a ")[0]
            message = f"{flag}: set one of its keys, such as --config.trunk.name="
        raise UserError(f"{message}; --help lists the flags") from error
    if len(remaining) > 1:
        raise UserError(f"{remaining[1]!r} is not a flag; --help lists them")
    flags.FLAGS.mark_as_parsed()  # libraries read their own flags there
    return values


def _add_saved_config(argv: Sequence[str]) -> Sequence[str]:
    """Adds the saved config of `--workdir` as `--config`, if flags change it without a `--config`.

    **Raises:** `UserError` for a change that a run cannot resume with.
    """
    words = flags.FLAGS.read_flags_from_files(list(argv), force_gnu=False)
    keys = [m[1] for word in words if (m := re.match(r"--?(?:no)?config\.([^=]+)", word))]
    workdir = re.search(r"(?:^|\0)--?workdir[=\0]([^\0]+)", "\0".join(words))
    if not (keys and workdir) or any(re.match(r"--?config(=|$)", word) for word in words):
        return argv
    is_evaluation = re.search(r"(?:^|\0)--?mode[=\0]evaluate(?:\0|$)", "\0".join(words))
    other_data = ("data.name", "data.options", "data.ignore", "data.relabel", "evaluation")
    allowed = (*MUTABLE_KEYS, *(other_data if is_evaluation else ()))
    for key in keys:
        if not key.startswith(allowed):
            raise UserError(
                f"--config.{key}: without --config, flags can change only keys that may differ "
                f"when a run resumes or is evaluated: {', '.join(allowed)}"
            )
    return [f"--config={SAVED_CONFIG}:{workdir[1]}", *argv]


class _ConfigParser(flags.ArgumentParser):
    """Parser of `--config`: keeps the file's config, without the other flags, in `loaded`."""

    loaded: Any = None

    def __init__(self, parser: flags.ArgumentParser):
        self._parser = parser

    def parse(self, argument: Any) -> Any:
        config: Any = self._parser.parse(argument)
        if config is None:
            raise UserError("--config: get_config() must return a config")
        if not isinstance(config, ConfigDict):
            return config  # a file that cannot be read: its error is raised later
        sections = [config, *(v for v in config.values() if isinstance(v, ConfigDict))]
        for section in sections:
            for key, value in list(section.items()):
                if isinstance(value, tuple):  # flags can add keys to the specs in it
                    section[key] = tuple(map(_to_spec, value))
        self.loaded = copy.deepcopy(config)
        return config


def _to_spec(value: Any) -> Any:
    """Converts a dictionary to a `ConfigDict`, which cannot hold the dotted keys of a stage."""
    has_dots = isinstance(value, dict) and any("." in str(key) for key in value)
    return ConfigDict(value) if isinstance(value, dict) and not has_dots else value


def _clear_replaced_options(values: flags.FlagValues) -> None:
    """Clears what flags replace: the other unit of a duration, and the options of another name."""
    overrides = config_flags.get_override_values(values["config"])
    loaded: Any = values["config"].parser.loaded  # pyright: ignore[reportAttributeAccessIssue]
    for path, value in overrides.items():
        parent, _, key = path.rpartition(".")
        if not parent:
            continue
        spec: Any = config_path.get_value(parent, values.config)
        old: Any = config_path.get_value(parent, loaded)
        other = {"epochs": "steps", "steps": "epochs"}.get(key)
        if other in spec and value and f"{parent}.{other}" not in overrides:
            spec[other] = type(spec[other])(0)
        if key == "name" and old.get("name", value) != value:
            spec, parent = (spec.options, "data.options") if parent == "data" else (spec, parent)
            for option in set(spec) - {"name", "head", "weight", "probability"}:
                if not any(f"{name}.".startswith(f"{parent}.{option}.") for name in overrides):
                    del spec[option]


def _find_config_error(error: BaseException | None, argv: Sequence[str]) -> str:
    """`mine.py, line 7: KeyError: 'x'` for an error that the config file raised; else empty."""
    files = {word.removeprefix("--config=").partition(":")[0] for word in argv}
    while error is not None:
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename in files:
                place = f"{frame.filename}, line {frame.lineno}"
                return f"{place}: {type(error).__name__}: {first_line(error)}"
        error = error.__cause__ or error.__context__  # ml_collections and absl wrap errors
    return ""


def _define_flags(argv: Sequence[str]) -> flags.FlagValues:
    """Defines the flags; config_flags needs `argv` to find the keys that it overrides."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file(
        "config",
        None,
        "Config file of the experiment (see configs/), or file.py:variant. --config.KEY=VALUE "
        "overrides a key, also in a tuple: --config.losses[0].weight=2. "
        "Without --config, keys of the run in --workdir that may change when it resumes; for "
        "--mode=evaluate also keys of data and evaluation.",
        values,
        lock_config=False,  # config_checks.check reports unknown keys with all other problems
        accept_new_attributes=True,
        sys_argv=list(argv),
    )
    values["config"].parser = _ConfigParser(values["config"].parser)
    text = "Folder of the run: config, checkpoints, logs and scores. Default: runs/NAME."
    flags.DEFINE_string("workdir", None, text, values)
    text = (
        "What to do; prepare only writes the prepared records; "
        "import makes a run of the weights in --config.init_from, without data and training."
    )
    flags.DEFINE_enum("mode", "train", ["train", "evaluate", "prepare", "import"], text, values)
    text = "The checkpoint that --mode=evaluate scores: best, last or a step."
    flags.DEFINE_string("checkpoint", "best", text, values)
    text = "The split that --mode=evaluate scores. Default: the config's evaluation split."
    flags.DEFINE_string("split", None, text, values)
    text = (
        "CSV with the column id and columns of groups, or FILE:COLUMN,... for some columns of a "
        "table: --mode=evaluate scores each group too."
    )
    flags.DEFINE_string("groups", None, text, values)
    text = "Prints Markdown tables of config keys, or of components and their options, and exits."
    flags.DEFINE_enum("list", None, TABLES, text, values)
    flags.DEFINE_bool("help", False, "Shows this help.", values, short_name="h")
    flags.DEFINE_bool("debug", False, "Prints the traceback of an error.", values)
    values["verbosity"] = flags.FLAGS["verbosity"]
    return values


def _dispatch(values: flags.FlagValues) -> int:
    # Imported here, after the flags are parsed: --help and wrong flags do not load JAX.
    import jax

    from affect_jax.config import create_stages, from_dict, with_absolute_paths
    from affect_jax.core import parallel, processes
    from affect_jax.data.dataset import prepare_dataset
    from affect_jax.run.workdir import Workdir
    from affect_jax.train.experiment import check_config, describe_settings
    from affect_jax.train.initial_weights import import_weights
    from affect_jax.train.stages import train_stages

    config_name = _get_config_name(values)
    workdir = Workdir(values.workdir or _get_default_workdir(config_name))
    config = values.config if config_name else from_dict(workdir.load_config())
    parallel.enable_compilation_cache()
    env_vars.set_cpu_fusion_types()
    env_vars.set_gpu_memory_fraction()
    processes.initialize()
    # Only training requires a batch size that is a multiple of the number of devices.
    num_devices = jax.device_count() if values.mode == "train" else 1
    command = {f"--{name}": values[name].value for name in ("mode", "checkpoint", "split")}
    processes.require_equal({**command, **describe_settings(config)})
    check_config(config, num_devices=num_devices, name=config_name or str(workdir.config_path))
    config = with_absolute_paths(config)
    if values.mode == "prepare":
        for stage in create_stages(config):
            print(f"prepared: {prepare_dataset(stage).data_path}")
        return 0
    if values.mode == "import":
        with processes.raise_in_all_processes():
            if processes.is_main():
                print(f"{import_weights(config, workdir)}\nimported: {workdir.path}")
        return 0
    if values.mode == "evaluate":
        return _evaluate(config, workdir, values)
    return train_stages(config, workdir)


def _evaluate(config: Any, workdir: Workdir, values: flags.FlagValues) -> int:
    # Imported here: training does not load the report's libraries.
    from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
    from affect_jax.report import evaluation_page

    evaluation = evaluate_checkpoint(
        config,
        workdir,
        checkpoint=values.checkpoint,
        split=values.split,
        groups=pathlib.Path(values.groups) if values.groups else None,
    )
    print(f"         {evaluation_page.write_report(evaluation)}")
    return 0


def _get_config_name(values: flags.FlagValues) -> str:
    """The value of `--config`; empty without it."""
    return getattr(values["config"], "_config_filename", "")


def _get_default_workdir(config_name: str) -> str:
    """`configs/alexnet_weighted.py:synthetic_faces` -> `runs/alexnet_weighted-synthetic_faces`."""
    path, _, variant = config_name.partition(":")
    if not path:
        raise UserError("--workdir: missing; pass a run's folder, or a --config to start a run")
    return "runs/" + "-".join(filter(None, (pathlib.Path(path).stem, variant)))


def _handle_interrupt(signal_number: int, _: object) -> None:
    """Handles Ctrl-C outside the training loop: exits at once, as there is nothing to save.

    A KeyboardInterrupt would be lost where Python ignores exceptions, for example in `__del__`.
    """
    os.write(2, b"affect_jax: interrupted; rerun the same command to resume\n")
    os._exit(128 + signal_number)


def _run() -> NoReturn:
    """Runs the command as a process, whose training does not depend on its standard streams."""
    signal.signal(signal.SIGINT, _handle_interrupt)
    sys.stdout, sys.stderr = streams = LossyStream(1), LossyStream(2)
    logging.use_absl_handler()
    logging.get_absl_handler().python_handler.setStream(sys.stderr)
    exit_code = main()
    for stream, other in zip(streams, streams[::-1], strict=True):
        if stream.error:
            print(f"affect_jax: output was lost: {stream.error.strerror}", file=other)
            exit_code = exit_code or 2
    if exit_code in (1, 2) and "jax" in sys.modules:
        from jax import distributed

        # A normal exit would wait for the other processes. Their number may be unknown, if JAX
        # found no device in this one.
        if distributed.is_initialized():
            os._exit(exit_code)
    # After an error, threads of libraries may not end.
    timer = threading.Timer(EXIT_SECONDS, os._exit, [exit_code])
    timer.daemon = True
    timer.start()
    sys.exit(exit_code)


if __name__ == "__main__":
    _run()
