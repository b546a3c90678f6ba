"""Command that scores predictions of any framework, or tests how robust a run's network is.

    python -m affect_jax.evaluate --predictions predictions.parquet --out scored/
    python -m affect_jax.evaluate --stress --workdir=runs/weighted

`python -m affect_jax.main --mode=evaluate` scores a checkpoint of a run.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import (
    ArgumentParser,
    add_run_flags,
    handle_cli_errors,
    output_folder,
    select_run,
)
from affect_jax.core.errors import UserError
from affect_jax.evaluate import scoring
from affect_jax.metrics import resampling
from affect_jax.metrics.predictions import read_predictions


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser("evaluate", "Scores a table of predictions.")
    parser.add_argument("--predictions", type=pathlib.Path, help=".parquet or .csv")
    parser.add_argument("--out", type=pathlib.Path, help="folder for scores.json and the report")
    parser.add_argument(
        "--draws", type=int, default=200, help="resamplings of the skew-normalised scores"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=resampling.REPLICATES,
        help="bootstrap samples for the 95 %% intervals; 0: no intervals",
    )
    parser.add_argument(
        "--groups",
        type=pathlib.Path,
        help="CSV with the column id and columns of group labels, or FILE:COLUMN,... for some "
        "columns of a table: adds the scores of each group",
    )
    parser.add_argument("--data", help="dataset; affectnet adds the paper's numbers to the report")
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="write report.html"
    )
    parser.add_argument(
        "--stress",
        action="store_true",
        help="score the network of --workdir while one factor of the faces changes",
    )
    add_run_flags(parser)
    parser.add_argument("--faces", type=int, default=500, help="number of faces of --stress")
    args = parser.parse_args(arguments)
    if args.draws < 1 or args.bootstrap < 0 or args.faces < 1:
        raise UserError("--draws and --faces must be 1 or more, --bootstrap 0 or more")
    if args.stress and not (args.predictions or args.out or args.groups):
        return _run_stress_tests(args)
    if args.stress or args.workdir or not (args.predictions and args.out):
        raise UserError("pass --predictions and --out, or --stress")
    group_labels = scoring.read_group_labels(args.groups)
    table = read_predictions(args.predictions)
    about = {  # the path is absolute, so that a report finds the table from any folder
        "predictions": str(args.predictions.absolute()),
        "sha256": hashlib.sha256(args.predictions.read_bytes()).hexdigest(),
    }
    if args.data:
        about["data"] = args.data
    scoring.score_table(table, args.out, about, args.draws, args.bootstrap, group_labels)
    if args.report:
        from affect_jax.report import run_page, runs  # the import takes seconds: print scores first

        print(f"         {run_page.write_report(runs.read_run(args.out), args.out)}")
    return 0


def _run_stress_tests(args: argparse.Namespace) -> int:
    # Imported here: scoring a table does not need JAX.
    from affect_jax.evaluate import stress
    from affect_jax.report import stress_page

    run = select_run(args)
    folder = output_folder(run) / "stress"
    content = stress.run_stress_tests(
        run, args.step, folder, num_faces=args.faces, bootstrap=args.bootstrap
    )
    stress_page.write_page(content, folder / "stress.html")
    print(f"written: {folder / 'stress.json'}\n         {folder / 'stress.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
