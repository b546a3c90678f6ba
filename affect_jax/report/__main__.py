"""Pages from the files of runs: one run's report, or several compared.

    python -m affect_jax.report runs/weighted --out page.html
    python -m affect_jax.report runs/weighted runs/resnet18 --out page.html

The faces themselves and Grad-CAM need the data and the network: `--mode=evaluate` writes a report
with both.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import answering
from affect_jax.report import comparison, page


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.report", description="A page of one run, or of several compared."
    )
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, help="workdirs, or folders that hold scores.json"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the page, .html")
    given = parser.parse_args(arguments)
    found = comparison.read(given.runs)
    if len(found) == 1:
        page.write(found[0], given.out.parent, page=given.out.name)
    else:
        comparison.write(found, given.out)
    print(f"written: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
