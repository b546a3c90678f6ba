"""The command: flags in, one of train, evaluate and prepare out. Nothing else is decided here.

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

from absl import app, flags, logging
from ml_collections import config_flags

from affect_jax.core import environment
from affect_jax.core.errors import UserError, first_line, for_want_of_memory
from affect_jax.core.registry import nearest

_CONFIG = config_flags.DEFINE_config_file(
    "config",
    None,
    "The experiment: a file of configs/, or file.py:variant. --config.KEY=VALUE changes a key.",
    lock_config=False,  # a wrong key is reported by checks.check, together with all others
    accept_new_attributes=True,
)
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: config, checkpoints, logs, scores. Default: runs/NAME."
)
_MODE = flags.DEFINE_enum(
    "mode",
    "train",
    ["train", "evaluate", "prepare"],
    "What to do; prepare writes the records only.",
)
_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", "best", "What --mode=evaluate scores: best, last or a step."
)
_SPLIT = flags.DEFINE_string(
    "split", None, "What --mode=evaluate scores it on. Default: the config's evaluation split."
)


def parse(argv: Sequence[str]) -> list[str]:
    """absl's parsing, with its errors as one line and exit code 2."""
    try:
        rest = flags.FLAGS(argv)
        if len(rest) > 1:
            raise UserError(f"{rest[1]!r} is not a flag; --help lists them")
        if flags.FLAGS["config"].present:
            if _CONFIG.value is None:
                raise UserError("--config: its get_config() returned nothing")
            _ = _CONFIG.value.seed  # a file that cannot be read shows itself on the first access
    except UserError as error:
        stop(error)
    except Exception as error:  # whatever a config file may raise
        if "--help" in argv or "-h" in argv:
            raise
        stop(_flag_error(error))
    return rest


def _flag_error(error: Exception) -> UserError:
    """The line that matters of what absl and config_flags print."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    path = config_flags.get_config_filename(flags.FLAGS["config"]) if _has_config() else ""
    last = lines[-1] if lines else type(error).__name__
    if isinstance(error, FileNotFoundError) or "Failed loading config" in str(error):
        return UserError(f"--config={path}: no such file; configs/ holds the experiments")
    if isinstance(error, flags.UnrecognizedFlagError):
        return UserError(
            f"--{error.flagname}: no such flag; {nearest(error.flagname, flags.FLAGS)}"
        )
    if re.fullmatch(r"['\"]*\w+['\"]*", last):  # a key, from ConfigDict
        whole = "--config.losses=\"({'name': ..., 'head': ...},)\""
        key = last.strip("'\"")
        return UserError(f"--config: no key {key!r} there; a tuple is given as a whole: {whole}")
    if "as a ConfigDict" in last:
        return UserError(
            f"flags: {last.split(' as a Conf')[0]}: name its key: --config.trunk.name="
        )
    return UserError(f"flags: {last}")


def _has_config() -> bool:
    return getattr(flags.FLAGS["config"], "_config_filename", None) is not None


def stop(error: UserError) -> None:
    """Prints the error as the command's last word and exits with 2."""
    print(f"affect_jax: {error}", file=sys.stderr)
    sys.exit(2)


def _interrupted(number: int, _: object) -> None:
    """Ctrl-C outside the loop, which has its own answer: ends at once, nothing is to be saved.

    A KeyboardInterrupt would be lost where Python ignores exceptions, as when it frees an object.
    """
    os.write(2, b"affect_jax: interrupted; the same command goes on\n")
    os._exit(128 + number)


def main(_: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, _interrupted)
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells the story of each file
    try:
        code = _dispatch()
    except UserError as error:
        _leave_others(error)
        stop(error)
    except (RuntimeError, MemoryError, OSError) as error:
        if for_want_of_memory(error):
            shortage = _shortage(error)
            _leave_others(shortage)
            stop(shortage)
        _leave_others(_loss_of_a_process(error))
        raise
    else:
        sys.exit(code)


def _shortage(error: BaseException) -> UserError:
    return UserError(
        f"no memory is left ({first_line(error)}); with data.cache = 'none' or fewer "
        "data.num_workers a run goes on from its last checkpoint, a smaller batch_size needs "
        "another --workdir"
    )


def _loss_of_a_process(error: BaseException) -> UserError | None:
    from jax.errors import JaxRuntimeError

    if not isinstance(error, JaxRuntimeError):
        return None
    line = (str(error).strip() or "no reason given").splitlines()[0]
    return UserError(
        "this process or one that it works with failed, and none can go on without it; start all "
        f"again with the same command to go on from the last checkpoint ({line})"
    )


def _leave_others(error: UserError | None) -> None:
    """Where this is one of several processes: says the error and ends without waiting for them."""
    from affect_jax.core import parallel

    if error is not None and parallel.is_multiprocess():
        print(f"affect_jax: {error}", file=sys.stderr)
        parallel.leave(2)


def _dispatch() -> int:
    # The libraries load once the flags are known to be right.
    from affect_jax.config import MAY_CHANGE, from_dict, to_dict, with_absolute_paths
    from affect_jax.core import parallel
    from affect_jax.data.targets import prepare_dataset
    from affect_jax.evaluate.checkpoint import evaluate_checkpoint
    from affect_jax.report import evaluation_page
    from affect_jax.run.checkpoints import Checkpoints
    from affect_jax.run.workdir import Workdir
    from affect_jax.train.experiment import check_config
    from affect_jax.train.loop import train_and_evaluate

    given = flags.FLAGS["config"].present
    workdir = Workdir(_WORKDIR.value or _default_workdir())
    config = _CONFIG.value if given else from_dict(workdir.load_config())
    name = _config_name() or str(workdir.path / "config.json")
    parallel.remember_compilations()
    environment.choose_fusions()
    environment.claim_memory()
    parallel.initialize()
    devices = parallel.num_devices() if _MODE.value == "train" else 1  # others split no batch
    check_config(config, num_devices=devices, name=name)
    if _MODE.value == "prepare":
        print(f"prepared: {prepare_dataset(config).data_path}")
        return 0
    if _MODE.value == "evaluate":
        saved = config if given else from_dict(workdir.load_config())
        evaluation = evaluate_checkpoint(
            saved, workdir, checkpoint=_CHECKPOINT.value, split=_SPLIT.value
        )
        print(f"         {evaluation_page.write(evaluation)}")
        return 0
    if not parallel.is_main():  # one process looks after the workdir
        return train_and_evaluate(config, workdir)
    workdir.create()
    with workdir.lock():
        if Checkpoints.of(config, workdir).steps():  # without one there is nothing to go on with
            workdir.check_config(to_dict(config), MAY_CHANGE)
        workdir.save_config(to_dict(with_absolute_paths(config)))
        return train_and_evaluate(config, workdir)


def _default_workdir() -> str:
    """`runs/alexnet_weighted-synthetic_faces` for `configs/alexnet_weighted.py:synthetic_faces`."""
    path, _, variant = _config_name().partition(":")
    if not path:
        raise UserError("--workdir: missing; name a run's folder, or a --config to start one")
    return "runs/" + "-".join(filter(None, (pathlib.Path(path).stem, variant)))


def _config_name() -> str:
    if not flags.FLAGS["config"].present:
        return ""
    return config_flags.get_config_filename(flags.FLAGS["config"])


if __name__ == "__main__":
    environment.use_huge_pages()
    app.run(main, flags_parser=parse)
