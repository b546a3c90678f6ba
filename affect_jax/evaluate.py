"""A checkpoint, or anybody's predictions, scored by the protocol.

    python -m affect_jax.main --mode=evaluate --workdir=runs/weighted --checkpoint=best
    python -m affect_jax.evaluate --predictions predictions.parquet --out scored/

The second command knows nothing of networks and does not load JAX: another framework's predictions
are scored by the same code.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from affect_jax import predictions as tables
from affect_jax import scores
from affect_jax.errors import UserError

if TYPE_CHECKING:
    from affect_jax.config import Config
    from affect_jax.workdir import Workdir


def evaluate(config: Config, workdir: Workdir, *, checkpoint: str, split: str | None) -> int:
    """Scores a checkpoint of a run over a whole split and writes the results into the workdir.

    **Arguments:**

    - `checkpoint`: `best`, `last` or a step.
    - `split`: None: the config's `evaluation.split`.

    **Returns:** the exit code, 0.

    **Raises:** `UserError` where there is no such checkpoint or split.
    """
    from affect_jax import batch as batches
    from affect_jax import inference, program
    from affect_jax import state as states
    from affect_jax.checkpoints import Checkpoints
    from affect_jax.data import features

    builder = program.prepare(config)
    data = features.open_split(builder, split or config.evaluation.split)
    training = features.open_split(builder, "training")
    targets = batches.targets(training.columns(), config.data.num_classes)
    compiled = program.create_program(config, targets, steps_per_epoch=1)
    with Checkpoints.of(config, workdir) as checkpoints:
        state, info = checkpoints.restore(states.template(compiled), checkpoint)
    table = inference.Evaluator(config, compiled, data)(states.variables(state))
    about = {
        "data": config.data.name,
        "split": data.name,
        "fingerprint": data.fingerprint,
        "config": info["config"],
        "checkpoint_step": info["step"],
    }
    _write(table, workdir.path / "evaluation" / data.name, about, config.evaluation.draws)
    return 0


def score_file(path: pathlib.Path, out: pathlib.Path, draws: int = 200) -> int:
    """Scores a table of predictions; see `affect_jax.predictions` for its columns.

    **Raises:** `UserError` that names what is wrong with the table.
    """
    table = tables.read(path)
    _write(table, out, {"predictions": str(path)}, draws)
    return 0


def _write(table: tables.Predictions, out: pathlib.Path, about: dict, draws: int) -> None:
    out.mkdir(parents=True, exist_ok=True)
    tables.write(table, out / "predictions.parquet")
    result = scores.score(table, draws=draws)
    scores.write(result, out / "scores.json", about)
    print(scores.summary(result))
    print(f"\nwritten: {out / 'scores.json'}, {out / 'predictions.parquet'}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.evaluate", description="Scores a table of predictions."
    )
    parser.add_argument("--predictions", type=pathlib.Path, required=True, help=".parquet or .csv")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the scores")
    parser.add_argument("--draws", type=int, default=200, help="of the skew-normalised scores")
    given = parser.parse_args(arguments)
    try:
        return score_file(given.predictions, given.out, given.draws)
    except UserError as error:
        print(f"affect_jax: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
