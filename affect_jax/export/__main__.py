"""Command `export`: writes a run's network and its model card into a folder.

    python -m affect_jax.export --workdir=runs/weighted --format=onnx

See `affect_jax.export.formats`.
"""

from __future__ import annotations

import dataclasses
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from affect_jax.core.cli import (
    ArgumentParser,
    add_run_flags,
    handle_cli_errors,
    output_folder,
    select_run,
)
from affect_jax.core.errors import UserError
from affect_jax.core.paths import READY_FOLDER, writing_to


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    parser = ArgumentParser(
        "export",
        "Exports a network with a model card: StableHLO, ONNX, safetensors, web page.",
    )
    add_run_flags(parser)
    parser.add_argument("--format", required=True, choices="stablehlo onnx safetensors web".split())
    parser.add_argument("--half", action="store_true", help="safetensors: store float16")
    parser.add_argument(
        "--calibrate",
        nargs="?",
        const="",
        metavar="PART",
        help="temperature scaling of the expressions on the evaluation split, or on a part of it",
    )
    parser.add_argument(
        "--out", type=pathlib.Path, help="output folder; default: RUN/export/FORMAT"
    )
    parser.add_argument(
        "--onnxruntime_web", type=pathlib.Path, default="node_modules/onnxruntime-web/dist",
        help="for --format=web: folder of this npm package; default: %(default)s",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    if args.half and args.format != "safetensors":
        raise UserError("--half: only --format=safetensors stores float16")
    # Heavy imports come after the flags are checked, so that errors in flags appear at once.
    from affect_jax.export import formats, model_card, web_page
    from affect_jax.predict.predictor import crop_options
    from affect_jax.run.trained_network import load_network

    run = select_run(args)
    runtime = web_page.read_runtime(args.onnxruntime_web) if args.format == "web" else None
    trained = load_network(run, args.step)
    _, align = crop_options(trained)
    if runtime and align == "eyes":
        raise UserError("--format=web: the page cannot find eyes, which align = 'eyes' needs")
    out = args.out or output_folder(run) / "export" / args.format
    changes: dict[str, Any] = {}
    if out.resolve() == READY_FOLDER.resolve():
        changes["is_ready"] = True
    if args.calibrate is not None:
        changes["calibration"] = model_card.calibrate(trained, args.calibrate)
        temperature = changes["calibration"]["temperature"]
        trained = dataclasses.replace(trained, temperature=temperature)
    exported = formats.write_network(
        trained, "onnx" if runtime else args.format, out, half=args.half
    )
    card = model_card.create_card(trained, args.format, exported)
    with writing_to(out):
        model_card.write_card({**card, **changes}, out)
        if runtime:
            web_page.write_page(out, runtime)
            exported["files"].append("index.html")
    for batch_size, difference in exported.get("largest_difference", {}).items():
        print(f"largest difference from JAX at batch size {batch_size}: {difference:.1e}")
    for name in (*exported["files"], "README.md", "card.json"):
        path = out / name
        print(f"written: {path} ({path.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
