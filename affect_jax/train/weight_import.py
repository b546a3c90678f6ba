"""Makes a run of weights that were trained elsewhere, `main --mode=import`."""

from __future__ import annotations

from affect_jax.config import Config, to_dict
from affect_jax.core import parallel
from affect_jax.core.errors import UserError
from affect_jax.run.checkpoints import Checkpoints
from affect_jax.run.workdir import Workdir
from affect_jax.train import initial_weights


def import_weights(config: Config, workdir: Workdir) -> str:
    """Makes a run that can be evaluated, exported and used for predictions, without training.

    Its only checkpoint, of step 0, holds the weights of `config.init_from` and no optimizer state.

    **Returns:** a description of the weights.

    **Raises:** `UserError` if `init_from` lacks an array, or the workdir contains a run.
    """
    weights = initial_weights.read(config)
    if weights is None:
        raise UserError("--mode=import: needs the weights, as --config.init_from=FILE")
    if missing := weights.report.initialised:
        raise UserError(
            f"init_from = {config.init_from!r}: has no {', '.join(missing)} of this shape, and "
            "--mode=import needs all weights; set heads, data.num_classes and init_outputs to the "
            "outputs of the file"
        )
    workdir.create()
    with workdir.lock(), Checkpoints.from_config(config, workdir) as checkpoints:
        if checkpoints.all_steps():
            raise UserError(f"{workdir.path}: contains a run; use another --workdir")
        workdir.save_config(to_dict(config))
        state = {"params": {"model": weights.params}, "batch_stats": weights.batch_stats}
        if config.ema_decay:
            state["ema"] = weights.params
        info = {"config": to_dict(config), "machine": parallel.describe_machine()}
        checkpoints.save(0, state, info)
        checkpoints.ensure_saved(0)
    return weights.report.describe()
