"""Intervals of logging, evaluation and saving, converted from the config to steps."""

from __future__ import annotations

import dataclasses

from affect_jax.config import Config, to_dict, to_steps


@dataclasses.dataclass(frozen=True)
class Intervals:
    """Intervals of a run in steps."""

    steps_per_epoch: int
    total: int  # of the whole run
    log: int  # steps between two such events, as the next three
    evaluate: int
    save: int
    images: int
    stop_after: int = 0  # steps without a better score that end the run; 0: none do

    @classmethod
    def from_config(cls, config: Config, steps_per_epoch: int) -> Intervals:
        stops = any(to_dict(config.stop_after).values())
        return cls(
            steps_per_epoch,
            total=to_steps(config.duration, steps_per_epoch),
            log=config.log_every,
            evaluate=to_steps(config.evaluate_every, steps_per_epoch),
            save=to_steps(config.checkpoint.every, steps_per_epoch),
            images=to_steps(config.images_every, steps_per_epoch),
            stop_after=to_steps(config.stop_after, steps_per_epoch) if stops else 0,
        )

    def is_due(self, event: str, step: int) -> bool:
        """Whether the event `log`, `evaluate`, `save` or `images` follows update number `step`."""
        return step == self.total or step % getattr(self, event) == 0

    def steps_per_dispatch(self, step: int, limit: int) -> int:
        """Number of updates after `step` that one dispatch may contain: `limit` or 1.

        It is 1 if the run has fewer steps left or an event is due before the last of them. Only two
        sizes occur, since each one is compiled separately.
        """
        events = ("log", "evaluate", "save", "images")
        before_last = range(step + 1, step + limit)
        due = any(self.is_due(event, number) for number in before_last for event in events)
        return 1 if due or step % limit or step + limit > self.total else limit
