"""The training command: parses flags and runs one of the modes train, evaluate and prepare.

python -m affect_jax.main --config=configs/alexnet_weighted.py --workdir=runs/weighted
python -m affect_jax.main --mode=evaluate --workdir=runs/weighted --checkpoint=best
"""

from __future__ import annotations

import os
import pathlib
import re
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from absl import app, flags, logging
from ml_collections import config_flags

from affect_jax.core import env_vars
from affect_jax.core.errors import UserError, first_line, is_out_of_memory
from affect_jax.core.registry import suggest_name

if TYPE_CHECKING:
    from affect_jax.run.workdir import Workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "Config file of the experiment (see configs/), or file.py:variant. --config.KEY=VALUE "
    "overrides a key.",
    lock_config=False,  # config_checks.check reports unknown keys, together with all other problems
    accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir",
    None,
    "Folder of the run: config, checkpoints, logs and scores. Default: runs/NAME.",
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "prepare"],
    "What to do; prepare only writes the prepared records.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "The checkpoint that --mode=evaluate scores: best, last or a step."
)
_SPLIT = flags.DEFINE_string(
    "split",
    None,
    "The split that --mode=evaluate scores. Default: the config's evaluation split.",
)
_GROUPS = flags.DEFINE_string(
    "groups",
    None,
    "CSV with the column id and columns of group labels: --mode=evaluate scores each group too.",
)


def parse_flags(argv: Sequence[str]) -> list[str]:
    """Parses the flags with absl; an error is one line and exit code 2."""
    try:
        remaining = flags.FLAGS(argv)
        if len(remaining) > 1:
            raise UserError(f"{remaining[1]!r} is not a flag; --help lists them")
        if flags.FLAGS["config"].present:
            if _CONFIG.value is None:
                raise UserError("--config: its get_config() returned nothing")
            _ = _CONFIG.value.seed  # an unreadable file raises on the first access
    except UserError as error:
        stop(error)
    except Exception as error:  # a config file may raise any exception
        if "--help" in argv or "-h" in argv:
            raise
        stop(_convert_flag_error(error))
    return remaining


def _convert_flag_error(error: Exception) -> UserError:
    """Reduces an error of absl or config_flags to one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    path = config_flags.get_config_filename(flags.FLAGS["config"]) if _has_config() else ""
    last_line = lines[-1] if lines else type(error).__name__
    if isinstance(error, FileNotFoundError) or "Failed loading config" in str(error):
        return UserError(f"--config={path}: no such file; see configs/ for the experiments")
    if isinstance(error, flags.UnrecognizedFlagError):
        return UserError(
            f"--{error.flagname}: no such flag; {suggest_name(error.flagname, flags.FLAGS)}"
        )
    if re.fullmatch(r"['\"]*\w+['\"]*", last_line):  # a key, from ConfigDict
        tuple_example = "--config.losses=\"({'name': ..., 'head': ...},)\""
        key = last_line.strip("'\"")
        return UserError(
            f"--config: no key {key!r}; tuples can only be set as a whole: {tuple_example}"
        )
    if "as a ConfigDict" in last_line:
        return UserError(
            f"flags: {last_line.split(' as a Conf')[0]}: set one of its keys: --config.trunk.name="
        )
    return UserError(f"flags: {last_line}")


def _has_config() -> bool:
    return getattr(flags.FLAGS["config"], "_config_filename", None) is not None


def stop(error: UserError) -> None:
    """Prints the error to stderr and exits with code 2."""
    print(f"affect_jax: {error}", file=sys.stderr)
    sys.exit(2)


def _handle_interrupt(signal_number: int, _: object) -> None:
    """Handles Ctrl-C outside the training loop: exits at once, as there is nothing to save.

    A KeyboardInterrupt would be lost where Python ignores exceptions, for example in `__del__`.
    """
    os.write(2, b"affect_jax: interrupted; rerun the same command to resume\n")
    os._exit(128 + signal_number)


def main(_: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, _handle_interrupt)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax logs every file at INFO
    try:
        exit_code = _dispatch()
    except UserError as error:
        _exit_if_multiprocess(error)
        stop(error)
    except (RuntimeError, MemoryError, OSError) as error:
        if is_out_of_memory(error):
            memory_error = _create_out_of_memory_error(error)
            _exit_if_multiprocess(memory_error)
            stop(memory_error)
        _exit_if_multiprocess(_create_lost_process_error(error))
        raise
    else:
        sys.exit(exit_code)


def _create_out_of_memory_error(error: BaseException) -> UserError:
    return UserError(
        f"Out of memory ({first_line(error)}). Set data.cache='none' or lower data.num_workers and "
        "rerun the same command to resume; a smaller batch_size needs a new --workdir."
    )


def _create_lost_process_error(error: BaseException) -> UserError | None:
    from jax.errors import JaxRuntimeError

    if not isinstance(error, JaxRuntimeError):
        return None
    return UserError(
        "A process of this run failed. Restart all processes with the same command to resume from "
        f"the last checkpoint ({first_line(error)})."
    )


def _exit_if_multiprocess(error: UserError | None) -> None:
    """In a multi-process run, prints the error and exits without waiting for the others."""
    from affect_jax.core import parallel

    if error is not None and parallel.is_multiprocess():
        print(f"affect_jax: {error}", file=sys.stderr)
        parallel.exit_if_multiprocess(2)


def _dispatch() -> int:
    # Imported here, after the flags are parsed: --help and wrong flags do not load JAX.
    from affect_jax.config import MUTABLE_KEYS, from_dict, to_dict, with_absolute_paths
    from affect_jax.core import parallel
    from affect_jax.data.dataset import prepare_dataset
    from affect_jax.run.checkpoints import Checkpoints
    from affect_jax.run.workdir import Workdir
    from affect_jax.train.experiment import check_config
    from affect_jax.train.loop import train_and_evaluate

    has_config = flags.FLAGS["config"].present
    workdir = Workdir(_WORKDIR.value or _get_default_workdir())
    config = _CONFIG.value if has_config else from_dict(workdir.load_config())
    config_name = _get_config_name() or str(workdir.path / "config.json")
    parallel.enable_compilation_cache()
    env_vars.set_cpu_fusion_types()
    env_vars.set_gpu_memory_fraction()
    parallel.initialize()
    # Only training requires a batch size that is a multiple of the number of devices.
    num_devices = parallel.num_devices() if _MODE.value == "train" else 1
    check_config(config, num_devices=num_devices, name=config_name)
    if _MODE.value == "prepare":
        print(f"prepared: {prepare_dataset(config).data_path}")
        return 0
    if _MODE.value == "evaluate":
        return _evaluate(config, workdir)
    if not parallel.is_main():  # only the main process writes the workdir
        return train_and_evaluate(config, workdir)
    workdir.create()
    with workdir.lock():
        checkpoints = Checkpoints.from_config(config, workdir)
        if checkpoints.all_steps():  # without a checkpoint there is no run to resume
            workdir.check_config(to_dict(config), MUTABLE_KEYS)
        workdir.save_config(to_dict(with_absolute_paths(config)))
        return train_and_evaluate(config, workdir)


def _evaluate(config: Any, workdir: Workdir) -> int:
    # Imported here: training does not load the report's libraries.
    from affect_jax.evaluate.checkpoint_evaluation import evaluate_checkpoint
    from affect_jax.report import evaluation_page

    evaluation = evaluate_checkpoint(
        config,
        workdir,
        checkpoint=_CHECKPOINT.value,
        split=_SPLIT.value,
        groups=pathlib.Path(_GROUPS.value) if _GROUPS.value else None,
    )
    print(f"         {evaluation_page.write_report(evaluation)}")
    return 0


def _get_default_workdir() -> str:
    """`configs/alexnet_weighted.py:synthetic_faces` -> `runs/alexnet_weighted-synthetic_faces`."""
    path, _, variant = _get_config_name().partition(":")
    if not path:
        raise UserError("--workdir: missing; pass a run's folder, or a --config to start a run")
    return "runs/" + "-".join(filter(None, (pathlib.Path(path).stem, variant)))


def _get_config_name() -> str:
    if not flags.FLAGS["config"].present:
        return ""
    return config_flags.get_config_filename(flags.FLAGS["config"])


if __name__ == "__main__":
    env_vars.restart_with_huge_pages()
    app.run(main, flags_parser=parse_flags)
