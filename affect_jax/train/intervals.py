"""When a run logs, evaluates and saves: durations of the config in steps of the run."""

from __future__ import annotations

import dataclasses
import functools

from affect_jax.config import Config, to_steps


@dataclasses.dataclass(frozen=True)
class Intervals:
    """When things happen, in steps."""

    steps_per_epoch: int
    total: int
    log: int
    evaluate: int
    save: int
    images: int

    @classmethod
    def of(cls, config: Config, steps_per_epoch: int) -> Intervals:
        in_steps = functools.partial(to_steps, steps_per_epoch=steps_per_epoch)
        return cls(
            steps_per_epoch,
            total=in_steps(config.duration),
            log=config.log_every,
            evaluate=in_steps(config.evaluate_every),
            save=in_steps(config.checkpoint.every),
            images=in_steps(config.images_every),
        )

    def due(self, name: str, step: int) -> bool:
        """Whether `log`, `evaluate`, `save` or `images` follows update number `step`."""
        return step == self.total or step % getattr(self, name) == 0

    def steps_per_dispatch(self, step: int, most: int) -> int:
        """How many updates after `step` may go out together: `most`, or 1.

        `most` where that many end at a multiple of `most` or at something that is due, and
        nothing is due before. Two numbers only, since each is a compilation.
        """
        names = ("log", "evaluate", "save", "images")
        inside = range(step + 1, step + most)
        due = any(self.due(name, number) for number in inside for name in names)
        return 1 if due or step % most or step + most > self.total else most
