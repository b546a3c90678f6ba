"""The README's table of configs and what they reach, from the folders of finished runs.

    python -m benchmarks.results runs/alexnet_weighted-synthetic_faces runs/resnet18_joint ...

A run must have been scored (`--mode=evaluate`). Its row takes the place of that of the same config,
data and network, between the markers in README.md, where the others stay. Every config of configs/
has a row; one without a run says what it needs.

A run's folder is named after its config; what follows names the data where the config cannot:
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

from affect_jax.metrics.predictions import read_predictions
from affect_jax.report import published_scores

ROOT = pathlib.Path(__file__).resolve().parents[1]
MARKERS = "<!-- results: python -m benchmarks.results RUN... -->", "<!-- end of results -->"
SHOWN = {
    "accuracy": "categorical.top1.original.accuracy",
    "macro-F1": "categorical.top1.original.f1.macro",
    "CCC valence": "dimensional.valence.ccc",
    "CCC arousal": "dimensional.arousal.ccc",
    "unit AUC": "action_units.mean.auc",
}
DATA = {"synthetic_faces": "rendered faces"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Fills the README's table of results.")
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--readme", type=pathlib.Path, default=ROOT / "README.md")
    options = parser.parse_args()
    text = options.readme.read_text()
    begin, end = MARKERS
    if begin not in text or end not in text:
        raise SystemExit(f"{options.readme}: the markers of the table are missing")
    before, rest = text.split(begin)
    standing, after = rest.split(end)
    found = {of_what(row): row for row in rows_in(standing)}
    found |= {of_what(row): row for row in map(row_of, options.runs)}
    rows = list(found.values())
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.py"))
    missing = [name for name in names if all(row["config"] != f"`{name}`" for row in rows)]
    rows += [{"config": f"`{name}`", "data": "needs AffectNet"} for name in missing]
    table = tabulate(rows, headers="keys", tablefmt="github", disable_numparse=True)
    options.readme.write_text(f"{before}{begin}\n\n{table}\n\n{end}{after}")
    print(table)


def of_what(row: dict[str, str]) -> tuple[str, ...]:
    """What a row is of: another of the same is its successor."""
    return tuple(row[title] for title in ("config", "data", "network"))


def rows_in(text: str) -> list[dict[str, str]]:
    """The rows of a table that this command wrote, but those of configs without a run."""
    lines = [line.strip("| ") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    rows = [dict(itertools.zip_longest(cells[0], row, fillvalue="")) for row in cells[2:]]
    return [row for row in rows if row["data"] != "needs AffectNet"]


def row_of(run: pathlib.Path) -> dict[str, str]:
    """One run's row: its scores on the validation split with 95% intervals, time and machine."""
    config = json.loads((run / "config.json").read_text())
    scored = json.loads((run / "evaluation" / "validation" / "scores.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    finished = datetime.datetime.fromtimestamp(lines[-1]["time"], datetime.UTC)
    row = {"config": f"`{config_name(run)}`", "data": data_of(run, config, scored)}
    width = f", width {config['trunk']['width']}" if "width" in config["trunk"] else ""
    row["network"] = f"{config['trunk']['name']}{width}, {config['data']['crop_size']} px"
    row |= {title: cell(scored, name) for title, name in SHOWN.items()}
    row["epochs"] = f"{config['duration']['epochs']:g}"
    row["minutes"] = f"{seconds_of(lines, config['batch_size']) / 60:.0f}"
    row["finished"] = f"{finished:%Y-%m-%d}"
    return row


def data_of(run: pathlib.Path, config: dict, scored: dict) -> str:
    """The data set in words; AffectNet only where the scored faces are its validation split."""
    name = config["data"]["name"]
    if name in DATA:
        return DATA[name]
    table = read_predictions(run / "evaluation" / "validation" / "predictions.parquet")
    if not published_scores.why_not_comparable(scored["about"], table):
        return "AffectNet"
    return run.name.removeprefix(config_name(run)).strip("-").replace("-", " ") or "not AffectNet"


def config_name(run: pathlib.Path) -> str:
    """`alexnet_weighted` for `runs/alexnet_weighted-synthetic_faces`, the default workdir."""
    names = [path.stem for path in (ROOT / "configs").glob("*.py")]
    fitting = [name for name in names if re.match(rf"{name}(-|$)", run.name)]
    if not fitting:
        raise SystemExit(f"{run}: the folder's name does not begin with a config's")
    return max(fitting, key=len)


def cell(scored: dict, name: str) -> str:
    if name not in scored["scores"] or scored["scores"][name] is None:
        return ""
    text = f"{scored['scores'][name]:.3f}"
    if name in scored["intervals"]:
        low, high = scored["intervals"][name]
        text += f" [{low:.3f}, {high:.3f}]"
    return text


def seconds_of(lines: list[dict], batch_size: int) -> float:
    """Training, evaluation and saving, without the pauses of an interrupted run.

    What came before the first line of the log, that line's rate tells.
    """
    times = [line["time"] for line in lines]
    gaps = sorted(b - a for a, b in itertools.pairwise(times))
    longest = 20 * gaps[len(gaps) // 2] + 60
    before = lines[0]["step"] * batch_size / lines[0]["train.images_per_second"]
    return before + sum(gap for gap in gaps if gap <= longest)


if __name__ == "__main__":
    main()
