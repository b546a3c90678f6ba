"""Command that scores predictions of any framework and writes a report.

    python -m affect_jax.evaluate --predictions predictions.parquet --out scored/

`python -m affect_jax.main --mode=evaluate` scores a checkpoint of a run.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import handle_cli_errors
from affect_jax.evaluate.scoring import score_file
from affect_jax.metrics import confidence_intervals


@handle_cli_errors
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.evaluate", description="Scores a table of predictions."
    )
    parser.add_argument("--predictions", type=pathlib.Path, required=True, help=".parquet or .csv")
    parser.add_argument(
        "--out", type=pathlib.Path, required=True, help="folder for scores.json and the report"
    )
    parser.add_argument(
        "--draws", type=int, default=200, help="resamplings of the skew-normalised scores"
    )
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=confidence_intervals.REPLICATES,
        help="bootstrap samples for the 95 %% intervals; 0: no intervals",
    )
    parser.add_argument("--data", default="", help="name of the dataset, for the report")
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="write report.html"
    )
    args = parser.parse_args(arguments)
    score_file(args.predictions, args.out, args.draws, args.bootstrap, data=args.data)
    if args.report:
        from affect_jax.report import run_page, runs  # the import takes seconds: print scores first

        print(f"         {run_page.write_report(runs.read_run(args.out), args.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
