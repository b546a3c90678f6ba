"""Command that lists the defects of a dataset before training.

    python -m affect_jax.audit --manual_dir=/path/to/AffectNet --out=audit

It prepares the records as `main` does. Then it writes `audit.html`, `audit.json` and the lists that
`config.data.ignore` and `config.data.relabel` read. The lists of the config itself apply first.
"""

from __future__ import annotations

import argparse
import collections
import json
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.csv
import tabulate

from affect_jax.audit import checks
from affect_jax.config import with_absolute_paths
from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.core.paths import write_atomically, writing_to
from affect_jax.data.decoding import decode_faces
from affect_jax.main import SAVED_CONFIG, parse_flags
from affect_jax.metrics.predictions import read_predictions
from affect_jax.report.templating import MACROS, render_page
from affect_jax.train.experiment import check_config

NUM_SHOWN = 50  # faces of each check on the page
HEADERS = ("check", "faces", "splits", "list")


def create_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(
        "audit",
        "Lists the defects of a dataset. Flags --config.KEY=VALUE change the config.",
    )
    help = "config file, or file.py:variant; default: AffectNet"
    parser.add_argument("--config", default=str(SAVED_CONFIG), help=help)
    parser.add_argument("--manual_dir", help="the same as --config.data.manual_dir")
    labels = parser.add_mutually_exclusive_group()
    help = "predictions of a split by a model that was not trained on it (.parquet or .csv)"
    labels.add_argument("--predictions", type=pathlib.Path, help=help)
    help = "fits a classifier to features of this run, not trained on the faces, or of 'ready'"
    labels.add_argument("--network", metavar="RUN", help=help)
    help = "searches each image for a face: libfacedetection or dlib; default: none"
    parser.add_argument("--detector", default="none", metavar="NAME", help=help)
    parser.add_argument("--out", type=pathlib.Path, default="audit", help="folder of the results")
    return parser


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    args, flags = create_parser().parse_known_args(arguments)
    if args.manual_dir:
        flags.append(f"--config.data.manual_dir={args.manual_dir}")
    config = parse_flags([f"--config={args.config}", *flags]).config
    check_config(config, name="--config")
    table = read_predictions(args.predictions) if args.predictions else None
    if table and (table.probabilities is None or table.is_hard):
        raise UserError(f"{args.predictions}: needs probabilities: columns p_... or l_...")
    predictor = checks.load_predictor(args.network) if args.network else None
    config = with_absolute_paths(config)
    config.heads, config.data.soft_labels = ("action_units",), False  # to estimate units
    size, (faces, records) = config.data.image_size, checks.read_faces(config, args.detector)
    findings = {"copies": checks.check_copies(faces), **checks.check_faces(faces, size)}
    if args.detector == "none":
        del findings["no_face"]
    about: dict[str, Any] = {"data": config.data.name, "faces": len(records)}
    share = "estimated share of wrong labels"
    if table:
        findings["wrong_labels"], about[share], about["class order"] = checks.check_predictions(
            faces, table
        )
    elif predictor:
        findings["wrong_labels"], about[share] = checks.check_labels(
            faces, records, size, predictor
        )
    warnings = [about["class order"]] if about.get("class order") else []
    sections, rows = [], []
    with writing_to(args.out):
        for name, finding in findings.items():
            columns = {key: faces[key][finding.rows] for key in ("id", "split", "expression")}
            lists = {key: values.tolist() for key, values in (columns | finding.columns).items()}
            with write_atomically(args.out / f"{name}.csv") as partial:
                pyarrow.csv.write_csv(pyarrow.table(lists), partial)
            about[name] = dict(collections.Counter(lists["split"]))
            counts = ", ".join(f"{split} {count:,}" for split, count in about[name].items())
            rows.append((finding.title, f"{len(finding.rows):,}", counts, f"{name}.csv"))
            sections.append((name, finding.title, _list_faces(finding, lists, records, size)))
        sections.insert(0, ("summary", "Summary", [MACROS.table("Faces found", HEADERS, rows, 4)]))
        page = render_page(
            sections,
            kind="audit of a dataset",
            heading=f"Audit of {config.data.name}",
            lead=f"{len(records):,} faces; the first {NUM_SHOWN} of each list are shown.",
            comparable=not warnings,
            notice=[*warnings, "Look at the faces before you use a list."],
            intervals=False,
        )
        for name, text in (("audit.json", json.dumps(about, indent=1)), ("audit.html", page)):
            with write_atomically(args.out / name) as partial:
                partial.write_text(text + "\n", encoding="utf-8")
    print(tabulate.tabulate(rows, HEADERS, disable_numparse=True))
    print("".join(f"warning: {text}\n" for text in warnings), args.out / "audit.html", sep="\n")
    return 0


def _list_faces(
    finding: checks.Finding, lists: dict[str, list[Any]], records: Any, size: int
) -> list[str]:
    """Returns the gallery of the first faces of a list, in pairs if it has other faces."""
    faces, others = [], () if finding.others is None else finding.others
    shown = zip(*(values[:NUM_SHOWN] for values in lists.values()), strict=True)
    for i, (id, split, expression, *values) in enumerate(shown):
        images = decode_faces(records, [finding.rows[i], *others[i : i + 1]], size)
        text = ", ".join(f"{value:.3g}" if isinstance(value, float) else value for value in values)
        label = f"{split}, {expression or 'no expression'}"
        faces.append(MACROS.face(id, text, label, *images, overlay_text="The other face"))
    return [MACROS.gallery(faces, len(others) > 0)] if faces else []


if __name__ == "__main__":
    sys.exit(main())
