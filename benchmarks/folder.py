"""Measures the time to predict a folder of photographs, beside other packages.

    python -m benchmarks.folder --manual_dir=DATA --peers_dir=peers

`benchmarks.ready` describes the packages. Each contender is one command, its start included: ours
is `python -m affect_jax.predict FOLDER`, which uses all cores; the others predict one photograph
after the other, as their documentation shows.
"""

from __future__ import annotations

import functools
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import harness
from benchmarks.ready import OURS, peer_command


def main(argv: Sequence[str] | None = None) -> None:
    args = harness.parse_args(
        __doc__,
        argv,
        manual_dir=(str, None, "folder of photographs, also in folders of folders"),
        peers_dir=("", None, "folder of the packages"),
        peers=(("face-api", "fer"), (), "the packages to measure"),
        photographs=(1000, 4, "photographs drawn at random"),
    )
    found = sorted(pathlib.Path(args.manual_dir).rglob("*.jpg"))
    chosen = np.random.default_rng(0).permutation(len(found))[: args.photographs]
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name) / "photographs"
        folder.mkdir()
        paths = [shutil.copy(found[i], folder / f"{i}.jpg") for i in sorted(chosen)]
        predict = [sys.executable, "-m", "affect_jax.predict", str(folder), f"--out={name}/out.csv"]
        commands: dict[str, Any] = {OURS: (predict, None)}
        commands |= {peer: peer_command(peer, args.peers_dir) for peer in args.peers}
        contenders = {
            contender: functools.partial(measure, command, environment, paths)
            for contender, (command, environment) in commands.items()
        }
        runs = harness.run_interleaved(contenders, args.rounds)
    seconds, processor = (
        {contender: [run[name] for run in rounds] for contender, rounds in runs.items()}
        for name in ("seconds", "processor_seconds")
    )
    rows = harness.summarize(seconds, "seconds", {"to affect_jax": OURS})
    of_processor = harness.summarize(processor, "of processor time", {"to affect_jax's": OURS})
    harness.write_result(
        "folder",
        what=f"Seconds to predict a folder of {len(paths):,} photographs, with the start",
        args=args,
        rows=[row | other for row, other in zip(rows, of_processor, strict=True)],
        runs=runs,
    )


def measure(
    command: list[str], environment: dict[str, str] | None, paths: Sequence[pathlib.Path]
) -> dict[str, float]:
    """Runs a command to its end, with the paths as its standard input."""

    def run() -> None:
        text = "\n".join(map(str, paths))
        subprocess.run(
            command, env=environment, input=text, stdout=subprocess.DEVNULL, text=True, check=True
        )

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = harness.measure_seconds(run)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "processor_seconds": processor}


if __name__ == "__main__":
    main()
