"""Fills the table of docs/results.md from the folders of finished runs.

    python -m benchmarks.results runs/alexnet_weighted-synthetic_faces runs/resnet18_joint ...

A run must have been evaluated (`--mode=evaluate`). Its row replaces the row of the same config,
data and network between the markers in the file; other rows stay. Every config of configs/
has a row; without a run, the row names the data that the config needs.

The folder of a run is named after its config. A suffix names the data if the config does not:
`runs/alexnet_weighted-my-photographs` was trained on "my photographs".
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import pathlib
import re

from tabulate import tabulate

from affect_jax.report import published_scores, runs
from benchmarks import harness

ROOT = pathlib.Path(__file__).resolve().parents[1]
MARKERS = "<!-- results: python -m benchmarks.results RUN... -->", "<!-- end of results -->"
SCORES = {
    "accuracy": "categorical.top1.original.accuracy",
    "macro-F1": "categorical.top1.original.f1.macro",
    "CCC valence": "dimensional.valence.ccc",
    "CCC arousal": "dimensional.arousal.ccc",
    "unit AUC": "action_units.mean.auc",
}
DATA = {"synthetic_faces": "rendered faces"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fills the table of results.")
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "docs" / "results.md")
    args = parser.parse_args()
    old_table = args.readme.read_text().partition(MARKERS[0])[2].partition(MARKERS[1])[0]
    rows_by_key = {row_key(row): row for row in parse_rows(old_table)}
    rows_by_key |= {row_key(row): row for row in map(create_row, args.runs)}
    rows = list(rows_by_key.values())
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    missing = [name for name in names if all(row["config"] != f"`{name}`" for row in rows)]
    rows += [{"config": f"`{name}`", "data": "needs AffectNet"} for name in missing]
    table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    harness.replace_table(args.readme, "results", table)
    print(table)


def row_key(row: dict[str, str]) -> tuple[str, ...]:
    """Returns the identity of a row: a new row replaces an old one with the same key."""
    return tuple(row[column] for column in ("config", "data", "network"))


def parse_rows(text: str) -> list[dict[str, str]]:
    """Parses a table of this command, without the rows of configs without a run."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    rows = [dict(itertools.zip_longest(cells[0], row, fillvalue="")) for row in cells[2:]]
    return [row for row in rows if row["data"] != "needs AffectNet"]


def create_row(run: pathlib.Path) -> dict[str, str]:
    """Returns the row of a run: scores of the validation split with 95% intervals."""
    config = json.loads((run / "config.json").read_text())
    evaluation = json.loads((run / "evaluation" / "validation" / "scores.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    finished = datetime.datetime.fromtimestamp(lines[-1]["time"], datetime.UTC)
    row = {"config": f"`{config_name(run)}`", "data": describe_data(run, config, evaluation)}
    width = f", width {config['trunk']['width']}" if "width" in config["trunk"] else ""
    row["network"] = f"{config['trunk']['name']}{width}, {config['data']['crop_size']} px"
    row |= {title: format_score(evaluation, name) for title, name in SCORES.items()}
    row["epochs"] = f"{config['duration']['epochs']:g}"
    row["finished"] = f"{finished:%Y-%m-%d}"
    return row


def describe_data(run: pathlib.Path, config: dict, evaluation: dict) -> str:
    """Names the dataset; "AffectNet" only if the scored faces are its validation split."""
    name = config["data"]["name"]
    if name in DATA:
        return DATA[name]
    if not published_scores.why_not_comparable(runs.read_run(run / "evaluation" / "validation")):
        return "AffectNet"
    return run.name.removeprefix(config_name(run)).strip("-").replace("-", " ") or "not AffectNet"


def config_name(run: pathlib.Path) -> str:
    """Returns the config of a workdir, `alexnet_weighted` of `alexnet_weighted-synthetic_faces`."""
    names = [path.stem for path in (ROOT / "configs").glob("*.py")]
    matches = [name for name in names if re.match(rf"{name}(-|$)", run.name)]
    if not matches:
        raise SystemExit(f"{run}: the folder name must begin with the name of a config")
    return max(matches, key=len)


def format_score(evaluation: dict, name: str) -> str:
    """Formats a score with its interval; empty if the run has no such score."""
    if evaluation["scores"].get(name) is None:
        return ""
    text = f"{evaluation['scores'][name]:.3f}"
    if name in evaluation["intervals"]:
        low, high = evaluation["intervals"][name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


if __name__ == "__main__":
    main()
