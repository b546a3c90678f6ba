"""Rows of a release read by an Apache Beam pipeline: by many machines, into the same records.

Beam (the extra `beam`) runs on this machine, Dataflow, Flink and Spark. `tfds` writes what the
pipeline gives into an unfinished folder, and renames that once all is there: what a killed driver
or worker leaves never looks like a data set.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from affect_jax.data import faces
from affect_jax.errors import UserError


def options(text: str) -> Any:
    """Beam's pipeline options from the text of a command line.

    **Raises:** `UserError` where Beam is not installed.
    """
    try:
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise UserError(
            f"data.options.beam = {text!r}: needs Apache Beam: pip install 'affect_jax[beam]'"
        ) from None
    return PipelineOptions(shlex.split(text))


def examples(
    rows: Callable[[], Iterable[faces.Row]], settings: faces.Settings, skipped: Any
) -> Any:
    """A Beam transform: nothing -> (id, record) of every row that can be used.

    **Arguments:**

    - `rows`: picklable; read by one worker and handed to all.
    - `skipped`: file that gets a JSON list of [number, id, reason], one of each row left out.
    """
    import apache_beam as beam

    from affect_jax.data.rows import example

    class ReadFaces(beam.PTransform):
        def expand(self, pipeline: Any) -> Any:
            read = (
                pipeline
                | "Start" >> beam.Create([0])
                | "Rows" >> beam.FlatMap(lambda _: rows())
                | "Spread" >> beam.Reshuffle()
                | "Read" >> beam.Map(faces.read_face, settings=settings)
            )
            _ = (
                read
                | "Unusable" >> beam.Filter(lambda face: bool(face.reason))
                | "Reason" >> beam.Map(lambda face: (face.number, face.id, face.reason))
                | "All" >> beam.combiners.ToList()
                | "Tell" >> beam.Map(lambda told: skipped.write_text(json.dumps(sorted(told))))
            )
            return (
                read
                | "Usable" >> beam.Filter(lambda face: not face.reason)
                | "Example" >> beam.Map(example)
            )

    return ReadFaces()
