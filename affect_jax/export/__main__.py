"""The command: a run's folder and a format in, a folder with the network and its card out.

python -m affect_jax.export --checkpoint=runs/weighted --format=onnx
python -m affect_jax.export --checkpoint=runs/weighted --format=stablehlo --params=beside
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import Parser, answering
from affect_jax.core.errors import UserError


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m affect_jax.export",
        description="Writes a trained network as StableHLO, ONNX or safetensors, with its card.",
        allow_abbrev=False,
    )
    made.add_argument("--checkpoint", required=True, metavar="RUN", help="folder of a run")
    made.add_argument("--format", required=True, choices=("stablehlo", "onnx", "safetensors"))
    made.add_argument("--step", default="best", help="which checkpoint: best, last or a step")
    made.add_argument("--out", type=pathlib.Path, help="folder; default: RUN/export/FORMAT")
    made.add_argument(
        "--params",
        default="baked",
        choices=("baked", "beside"),
        help="of StableHLO: in the program, or in a file beside it",
    )
    made.add_argument(
        "--groups", type=pathlib.Path, help="CSV of id and groups of people: scores of each"
    )
    return made


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    if given.params == "beside" and given.format != "stablehlo":
        raise UserError("--params=beside: goes with --format=stablehlo only")
    out = given.out or pathlib.Path(given.checkpoint) / "export" / given.format
    return _export(given, out)


def _export(given: argparse.Namespace, out: pathlib.Path) -> int:
    # The libraries load once the flags are known to be right.
    from affect_jax.export import card, formats, groups
    from affect_jax.run.load import load_network

    groupings = groups.read(given.groups) if given.groups else {}
    found = load_network(given.checkpoint, given.step)
    form, beside = given.format, given.params == "beside"
    try:
        out.mkdir(parents=True, exist_ok=True)
        made = formats.write(found, form, out, beside=beside)
        card.write(card.create(found, form, made, groupings), out)
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error.strerror or error}") from error
    for size, difference in made.get("largest_difference", {}).items():
        print(f"largest difference from JAX at batch {size}: {difference:.1e}")
    for name in (*made["files"], "README.md", "card.json"):
        path = out / name
        print(f"written: {path} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
