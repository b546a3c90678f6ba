"""Command `export`: writes a run's network and its model card into a folder.

    python -m affect_jax.export --workdir=runs/weighted --format=onnx

See `affect_jax.export.formats`.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import ArgumentParser, add_run_flags, handle_cli_errors
from affect_jax.core.paths import writing_to


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
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
    args = parser.parse_args(arguments)
    # Heavy imports come after the flags are checked, so that errors in flags appear at once.
    from affect_jax.export import formats, model_card
    from affect_jax.run.trained_network import load_network

    out = args.out or pathlib.Path(args.workdir) / "export" / args.format
    trained = load_network(args.workdir, args.step)
    exported = formats.write_network(trained, args.format, out)
    with writing_to(out):
        model_card.write_card(model_card.create_card(trained, args.format, exported), out)
    for batch_size, difference in exported.get("largest_difference", {}).items():
        print(f"largest difference from JAX at batch size {batch_size}: {difference:.1e}")
    for name in (*exported["files"], "README.md", "card.json"):
        path = out / name
        print(f"written: {path} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
