"""A checkpoint, or anybody's predictions, scored by the protocol; the report of it.

    python -m affect_jax.main --mode=evaluate --workdir=runs/weighted --checkpoint=best
    python -m affect_jax.evaluate --predictions predictions.parquet --out scored/

The second command knows nothing of networks and does not load JAX: another framework's predictions
are scored by the same code.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import hashlib
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from affect_jax import predictions as tables
from affect_jax import scores
from affect_jax.command import answering
from affect_jax.errors import UserError
from affect_jax.metrics import intervals

if TYPE_CHECKING:
    from affect_jax.config import Config
    from affect_jax.inference import Evaluator
    from affect_jax.program import Program
    from affect_jax.workdir import Workdir


def evaluate(config: Config, workdir: Workdir, *, checkpoint: str, split: str | None) -> int:
    """Scores a checkpoint of a run over a whole split and writes the results into the workdir.

    **Arguments:**

    - `checkpoint`: `best`, `last` or a step.
    - `split`: None: the config's `evaluation.split`.

    **Returns:** the exit code, 0.

    **Raises:** `UserError` where there is no such checkpoint or split.
    """
    from affect_jax import config as configs
    from affect_jax import inference, parallel, program, train
    from affect_jax import state as states
    from affect_jax.checkpoints import Checkpoints
    from affect_jax.data import features, records

    builder = program.prepare(config)
    data = features.open_split(builder, split or config.evaluation.split)
    training = features.open_split(builder, "training")
    targets, _ = program.load_targets(config, training)
    steps_per_epoch = train.training_rows(config, targets).steps_per_epoch
    compiled = program.create_program(config, targets, steps_per_epoch)
    with Checkpoints.of(config, workdir) as checkpoints:
        state, info = checkpoints.restore(states.template(compiled), checkpoint)
    evaluator, variables = inference.Evaluator(config, compiled, data), states.variables(state)
    with records.Verification([data]) as verification:
        table = evaluator(variables)
        verification.check()
    about = {
        "data": config.data.name,
        "split": data.name,
        "fingerprint": data.fingerprint,
        "config": configs.digest(config),
        "checkpoint_step": info["step"],
        "machine": parallel.machine(),
        "machine_of_training": info["machine"] if "machine" in info else {},
    }
    if evaluator.told:
        about["action_units"] = evaluator.told  # annotated, or estimated from landmarks
    out = workdir.path / "evaluation" / data.name
    with _writing(out):
        tables.write(table, out / "predictions.parquet")
    print(f"step {info['step']:,}, {data.name} split, {len(table):,} faces\n")
    about["predictions"] = str(out / "predictions.parquet")
    _score(table, out, about, config.evaluation.draws, intervals.REPLICATES)
    _report(evaluator, compiled, variables, table, out)
    return 0


def _report(
    evaluator: Evaluator,
    program: Program,
    variables: dict[str, Any],
    table: tables.Predictions,
    out: pathlib.Path,
) -> None:
    """The page of the evaluation in `out`, with faces and what the network saw in some of them.

    Its figures go to TensorBoard in a folder of their own: a new event file beside those of a
    training that is going on would end what TensorBoard reads of it.
    """
    from affect_jax import explanations, writers
    from affect_jax.report import page, runs, selection

    rows = selection.shown(table)
    found: list[runs.Explanation] = []
    examples = [int(row) for several in selection.examples(table).values() for row in several]
    if examples and table.probabilities is not None:
        faces, heat = explanations.grad_cam(
            program.model,
            variables,
            evaluator.faces(examples),
            table.probabilities[examples].argmax(axis=1),
            crop_size=program.crop_size,
        )
        found = [runs.Explanation(*one) for one in zip(examples, faces, heat, strict=True)]
    pictures = dict(zip(rows, evaluator.faces(rows), strict=True))
    run = dataclasses.replace(runs.read(out), faces=pictures, explanations=found)
    with contextlib.closing(writers.TensorBoardWriter(out / "tensorboard")) as writer:
        print(f"         {page.write(run, out, writer=writer)}")


def score_file(
    path: pathlib.Path,
    out: pathlib.Path,
    draws: int,
    bootstrap: int,
    *,
    data: str = "",
    report: bool = True,
) -> int:
    """Scores a table of predictions; see `affect_jax.predictions` for its columns.

    **Arguments:**

    - `draws`: of the skew-normalised scores.
    - `bootstrap`: samples for the intervals; 0: no intervals.
    - `data`: the data set's name, for the report; `affectnet` lets it show the paper's numbers,
      where the labels are AffectNet's.
    - `report`: write the page too.

    **Returns:** the exit code, 0.

    **Raises:** `UserError` that names what is wrong with the table.
    """
    if draws < 1 or bootstrap < 0:
        raise UserError(f"--draws={draws} --bootstrap={bootstrap}: must be 1 or more, 0 or more")
    table = tables.read(path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    about = {"predictions": str(path), "sha256": digest} | ({"data": data} if data else {})
    _score(table, out, about, draws, bootstrap)
    if report:
        from affect_jax.report import page, runs  # seconds that the scores need not wait for

        print(f"         {page.write(runs.read(out), out)}")
    return 0


def _score(
    table: tables.Predictions, out: pathlib.Path, about: dict[str, Any], draws: int, bootstrap: int
) -> None:
    """Scores a table, prints a summary and writes `scores.json` into the folder."""
    result = scores.score(table, draws=draws, bootstrap=bootstrap)
    if not result.values:
        raise UserError(
            f"{about['predictions']}: no face has a label to score a prediction against"
        )
    left_out = scores.not_scored(table)
    if left_out:
        about = about | {"not_scored": left_out}
    with _writing(out):
        scores.write(result, out / "scores.json", about | _protocol(table, draws, bootstrap))
    print(scores.summary(result))
    if left_out:
        print(f"\nnot scored: {'; '.join(left_out)}")
    print(f"\nwritten: {out / 'scores.json'}")


@contextlib.contextmanager
def _writing(out: pathlib.Path) -> Iterator[None]:
    """Makes the folder; where it or what is written there fails, a `UserError` says so."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from error


def _protocol(table: tables.Predictions, draws: int, bootstrap: int) -> dict[str, Any]:
    """What else `scores.json` says of how its numbers came about."""
    return {
        "faces": len(table),
        "classes": list(table.classes),
        "draws": draws,
        "bootstrap": bootstrap,
        "interval": intervals.LEVEL,
        "seed": 0,
        "time": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m affect_jax.evaluate", description="Scores a table of predictions."
    )
    parser.add_argument("--predictions", type=pathlib.Path, required=True, help=".parquet or .csv")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder for the scores")
    parser.add_argument("--draws", type=int, default=200, help="of the skew-normalised scores")
    parser.add_argument(
        "--bootstrap",
        type=int,
        default=intervals.REPLICATES,
        help="samples for the 95 %% intervals; 0: none",
    )
    parser.add_argument("--data", default="", help="name of the data set, for the report")
    parser.add_argument(
        "--report", action=argparse.BooleanOptionalAction, default=True, help="write report.html"
    )
    given = parser.parse_args(arguments)
    return score_file(
        given.predictions,
        given.out,
        given.draws,
        given.bootstrap,
        data=given.data,
        report=given.report,
    )


if __name__ == "__main__":
    sys.exit(main())
