"""Progress on the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from affect_jax.train.metrics_log import MetricsLog
from affect_jax.train.step_intervals import Intervals


class FakeStream:
    """A stream that may be a terminal."""

    def __init__(self, terminal: bool):
        self._terminal, self.text = terminal, ""

    def isatty(self) -> bool:
        return self._terminal

    def write(self, text: str) -> int:
        self.text += text
        return len(text)

    def flush(self) -> None:
        pass


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_shows_step_epoch_and_values(monkeypatch, terminal):
    stream = FakeStream(terminal)
    monkeypatch.setattr("sys.stderr", stream)
    intervals = Intervals(20, total=40, log=5, evaluate=20, save=20, images=20)
    unused: Any = None
    log = MetricsLog(unused, unused, intervals, unused, start=10)
    log.add(None, 3)
    log.add(None, 2)
    values = {"loss": 0.25, "images_per_second": 1234.5, "learning_rate": 0.01}
    log.show(15, {**values, "data_wait_share": 0.5, "accuracy": 1.0})
    log.print("step 15: f1 0.5")
    log.close()
    assert "epoch 0.75" in stream.text and "loss 0.25" in stream.text
    assert "step 15: f1 0.5\n" in stream.text
    if not terminal:
        assert "step 15 of 40 (38%), epoch 0.75: loss 0.25, images_per_second 1234" in stream.text
        assert "\r" not in stream.text
