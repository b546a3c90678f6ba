"""Command that writes a report of one run, or a comparison of several, from their files.

    python -m affect_jax.report runs/weighted --out page.html
    python -m affect_jax.report runs/weighted runs/resnet18 --out page.html

Face images and Grad-CAM need the data and the network: `--mode=evaluate` writes a report with both.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.report import comparison, run_page


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser("report", "Writes a report of one run or a comparison of several.")
    parser.add_argument(
        "runs", nargs="+", type=pathlib.Path, help="workdirs, studies, folders of scores, files"
    )
    parser.add_argument("--out", type=pathlib.Path, required=True, help="path of the page (.html)")
    args = parser.parse_args(arguments)
    if args.out.suffix not in (".html", ".htm"):
        raise UserError(
            f"--out={args.out}: the page must end in .html; python -m affect_jax.report.tables "
            "writes Markdown, LaTeX and CSV"
        )
    loaded_runs = comparison.read_runs(args.runs)
    if len(loaded_runs) == 1 and not loaded_runs[0].members:
        run_page.write_report(loaded_runs[0], args.out.parent, page=args.out.name)
    else:
        comparison.write_comparison(loaded_runs, args.out)
    print(f"written: {args.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
