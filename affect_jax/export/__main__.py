"""Command `export`: writes a run's network and its model card into a folder.

    python -m affect_jax.export --workdir=runs/weighted --format=onnx
    python -m affect_jax.export --workdir=runs/weighted --format=stablehlo --params=beside

See `affect_jax.export.formats`.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import ArgumentParser, add_run_flags, handle_cli_errors
from affect_jax.core.errors import UserError


def create_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        prog="python -m affect_jax.export",
        description="Exports a network to StableHLO, ONNX or safetensors, with a model card.",
        allow_abbrev=False,
    )
    add_run_flags(parser)
    parser.add_argument("--format", required=True, choices=("stablehlo", "onnx", "safetensors"))
    parser.add_argument(
        "--out", type=pathlib.Path, help="output folder; default: RUN/export/FORMAT"
    )
    parser.add_argument(
        "--params",
        default="baked",
        choices=("baked", "beside"),
        help="StableHLO only: parameters inside the program, or in a separate file beside it",
    )
    parser.add_argument(
        "--groups",
        type=pathlib.Path,
        help="CSV with the column id and columns of group labels: adds the scores of each group",
    )
    return parser


@handle_cli_errors
def main(arguments: Sequence[str] | None = None) -> int:
    args = create_parser().parse_args(arguments)
    if args.params == "beside" and args.format != "stablehlo":
        raise UserError("--params=beside: works with --format=stablehlo only")
    out = args.out or pathlib.Path(args.workdir) / "export" / args.format
    return _export(args, out)


def _export(args: argparse.Namespace, out: pathlib.Path) -> int:
    # Heavy imports come after the flags are checked, so that errors in flags appear at once.
    from affect_jax.evaluate.group_scores import read_group_labels
    from affect_jax.export import formats, model_card
    from affect_jax.run.trained_network import load_network

    group_labels = read_group_labels(args.groups) if args.groups else None
    trained = load_network(args.workdir, args.step)
    separate_params = args.params == "beside"
    try:
        out.mkdir(parents=True, exist_ok=True)
        exported = formats.write_network(trained, args.format, out, separate_params=separate_params)
        model_card.write_card(
            model_card.create_card(trained, args.format, exported, group_labels), out
        )
    except OSError as error:
        raise UserError(f"--out={out}: cannot be written: {error.strerror or error}") from error
    for batch_size, difference in exported.get("largest_difference", {}).items():
        print(f"largest difference from JAX at batch size {batch_size}: {difference:.1e}")
    for name in (*exported["files"], "README.md", "card.json"):
        path = out / name
        print(f"written: {path} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
