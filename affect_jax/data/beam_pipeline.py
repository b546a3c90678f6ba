"""Reads the rows of a release in an Apache Beam pipeline, on many machines.

Beam (the extra `beam`) runs on Dataflow, on Flink and on Spark. The records are the same as without
Beam. `tfds` runs the pipeline, which writes to an unfinished folder, and renames that when all
records are written, so that a killed driver or worker never leaves a folder that looks complete.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from typing import Any

from affect_jax.core.errors import UserError
from affect_jax.data import face_images


def parse_options(text: str) -> Any:
    """Parses Beam's pipeline options from the text of a command line.

    **Raises:** `UserError` if Beam is not installed, or for processes of one machine; `SystemExit`
    after a message if Beam cannot parse the options.
    """
    try:
        from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions
    except ImportError:
        raise UserError(
            f"data.options.beam = {text!r}: needs Apache Beam: pip install 'affect_jax[beam]'"
        ) from None
    options = PipelineOptions(shlex.split(text))
    # If one of its processes died, Beam would wait for it forever.
    if options.view_as(DirectOptions).direct_running_mode == "multi_processing":
        raise UserError(
            f"data.options.beam = {text!r}: for processes of one machine, leave it empty and set "
            "data.options.num_workers"
        )
    return options


def create_transform(
    rows: Callable[[], Iterable[face_images.Row]], settings: face_images.Settings, skipped_path: Any
) -> Any:
    """Creates a Beam transform: no input -> (id, record) of every usable row.

    **Arguments:**

    - `rows`: picklable; one worker reads the rows and distributes them.
    - `skipped_path`: the file for a JSON list of [number, id, reason], one per skipped row.
    """
    import apache_beam as beam

    @beam.ptransform_fn
    def read_faces(pipeline: Any) -> Any:
        faces = (
            pipeline
            | "Start" >> beam.Create([0])
            | "Rows" >> beam.FlatMap(lambda _: face_images.make_ids_unique(rows()))
            | "Spread" >> beam.Reshuffle()
            | "Read" >> beam.Map(face_images.read_face, settings=settings)
        )
        _ = (
            faces
            | "Skipped" >> beam.Filter(lambda face: face.record is None)
            | "Reason" >> beam.Map(lambda face: (face.number, face.id, face.reason))
            | "All" >> beam.combiners.ToList()
            | "Write" >> beam.Map(lambda skipped: skipped_path.write_text(json.dumps(skipped)))
        )
        return (
            faces
            | "Usable" >> beam.Filter(lambda face: face.record is not None)
            | "Example" >> beam.Map(lambda face: (face.id, face.record))
        )

    return read_faces()  # pyright: ignore[reportCallIssue]
