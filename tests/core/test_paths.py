"""Writing files."""

from __future__ import annotations

import os

from affect_jax.core.paths import write_atomically


def test_pipes_and_devices_are_written_to_and_not_replaced(tmp_path):
    """Root would replace /dev/null by `--out /dev/null`."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDWR)
    with write_atomically(pipe) as path:
        path.write_text("table")
    assert os.read(reader, 9) == b"table" and pipe.is_fifo()
    os.close(reader)
