"""The command that scores predictions of any framework, and writes their report.

    python -m affect_jax.evaluate --predictions predictions.parquet --out scored/

A checkpoint of a run is scored by `python -m affect_jax.main --mode=evaluate`.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import answering
from affect_jax.evaluate.scoring import score_file
from affect_jax.metrics import confidence_intervals


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.evaluate", description="Scores a table of predictions."
    )
    parser.add_argument("--predictions", type=pathlib.Path, required=True, help=".parquet or .csv")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the scores")
    parser.add_argument("--draws", type=int, default=200, help="of the skew-normalised scores")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=confidence_intervals.REPLICATES,
        help="samples for the 95 %% intervals; 0: none",
    )
    parser.add_argument("--data", default="", help="name of the data set, for the report")
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="write report.html"
    )
    given = parser.parse_args(arguments)
    score_file(given.predictions, given.out, given.draws, given.bootstrap, data=given.data)
    if given.report:
        from affect_jax.report import page, runs  # takes seconds; the scores are printed first

        print(f"         {page.write(runs.read(given.out), given.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
