"""Command that trains an experiment with several seeds and options, and compares the options.

    python -m affect_jax.study --config=configs/resnet18_weighted.py --seeds=0,1,2 \\
        --grid learning_rate=0.01,0.003 --workdir=studies/rates --config.data.manual_dir=DATA

Each run is an ordinary run in WORKDIR/OPTIONS/seedN. The same command resumes an interrupted study
and skips finished runs; more seeds and values may be added. At the end `study.json`, `study.html`
and `tables/` have the means and standard deviations over seeds and the intervals of the bootstrap
over seeds and faces.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import pathlib
import sys
import urllib.parse
from collections.abc import Mapping, Sequence

from affect_jax.config import with_absolute_paths
from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.main import parse_flags
from affect_jax.metrics.protocol import nan_to_none
from affect_jax.report import comparison, runs, tables
from affect_jax.report.runs import Run
from affect_jax.run.workdir import Workdir
from affect_jax.study import launchers
from affect_jax.study.launchers import StudyRun
from affect_jax.train.experiment import check_config


def create_runs(args: argparse.Namespace, config_flags: Sequence[str]) -> dict[str, list[StudyRun]]:
    """Creates the runs of a study by options, each with a checked config.

    **Arguments:** `config_flags`: the flags `--config.KEY=VALUE` of all runs.

    **Raises:** `UserError` for a wrong flag or config.
    """
    seeds = args.seeds.split(",")
    if not all(map(str.isdecimal, seeds)) or len(set(map(int, seeds))) < len(seeds):
        raise UserError(f"--seeds={args.seeds}: must be whole numbers, each once, such as 0,1,2")
    grid = []
    for text in args.grid:
        key, _, values = text.partition("=")
        if not (key and values) or key == "seed":
            raise UserError(f"--grid {text}: must be KEY=VALUE,VALUE; --seeds sets the seeds")
        grid.append([f"{key}={value}" for value in values.split(",")])
    folder = Workdir(args.workdir).path
    study = {}
    for options in itertools.product(*grid):
        name = ",".join(options) or folder.resolve().name
        study[name] = []
        for seed in map(int, seeds):
            settings = [f"--config.{option}" for option in (*options, f"seed={seed}")]
            path = folder.joinpath(*[urllib.parse.quote(name, "=,{}: ")] if options else [])
            path /= f"seed{seed}"
            flags = [f"--config={args.config}", f"--workdir={path}", *config_flags, *settings]
            config = parse_flags(flags).config
            check_config(config, name=" ".join([args.config, *settings]))
            run = StudyRun(path, with_absolute_paths(config), flags, args.checkpoint)
            study[name].append(run)
    return study


def write_results(systems: Mapping[str, Run], folder: pathlib.Path) -> None:
    """Writes `study.json`, `study.html` and `tables/`."""
    content = {
        name: {
            "seeds": run.config["seed"],
            "faces": len(run.predictions),
            "scores": nan_to_none(run.scores.values),
            "deviations": nan_to_none(run.scores.deviations),
            "intervals": run.scores.intervals,
        }
        for name, run in systems.items()
    }
    with writing_to(folder), write_atomically(folder / "study.json") as partial:
        partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
    named = runs.match_faces([dataclasses.replace(run, name=n) for n, run in systems.items()])
    changes = comparison.compute_differences(named)  # once for the tables and the page
    by_name = {run.name: run for run in named}
    tables.write_tables(tables.create_tables(by_name, changes), folder / "tables")
    comparison.write_comparison(named, folder / "study.html", changes)
    for name in ("study.json", "study.html"):
        print(f"written: {folder / name}")


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        "study",
        "Trains an experiment with several seeds and options. Flags --config.KEY=VALUE "
        "are passed to all runs.",
    )
    parser.add_argument("--config", required=True, help="config file, or file.py:variant")
    parser.add_argument("--workdir", required=True, help="folder of the study")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, by default 0,1,2")
    help = "values of a config key, compared with each other; several keys: all combinations"
    parser.add_argument(
        "--grid", nargs="+", action="extend", default=[], metavar="KEY=A,B", help=help
    )
    help = "the checkpoint to evaluate: last (default), best or a step; best is selected on the "
    parser.add_argument(
        "--checkpoint", default="last", help=f"{help}evaluation split, which favours it"
    )
    help = "here (default): one run after another; slurm: submits job arrays"
    parser.add_argument("--launcher", choices=("here", "slurm"), default="here", help=help)
    args, config_flags = parser.parse_known_args(arguments)
    for flag in config_flags:
        if not (flag.startswith("--config.") and "=" in flag) or flag.startswith("--config.seed="):
            parser.error(f"{flag!r} is not a flag of a study; --seeds sets the seeds")
    study = create_runs(args, config_flags)
    missing = [run for group in study.values() for run in group if not run.is_evaluated()]
    if missing and args.launcher == "slurm":
        launchers.submit_to_slurm(missing, pathlib.Path(args.workdir))
        print("When the jobs have ended, the same command writes the results.")
        return 0
    if code := launchers.run_here(missing):
        return code
    systems = {
        name: runs.create_study(name, [runs.read_run(run.evaluation) for run in group])
        for name, group in study.items()
    }
    write_results(systems, pathlib.Path(args.workdir))
    return 0


if __name__ == "__main__":
    sys.exit(main())
