"""A step's speed and the schedule's time on one GPU, where little but JAX and PyTorch is installed.

    python -m benchmarks.gpu            # prints one table; ends within eight minutes
    python -m benchmarks.gpu --quick    # anywhere, tiny, to see that it runs

It needs jax, flax, optax, numpy and torch: of the package only what imports where nothing else is,
see `benchmarks.bare`. Steps are measured as in `benchmarks.step`.

The schedule is the protocol's: 20 epochs of 287,651 faces in batches of 256, an evaluation of 4,000
after each. The faces are random bytes, 256 x 256, all of them in the card's memory (fewer where it
is too small); batches are drawn by row in another order each epoch and gathered inside the step,
ten updates a dispatch, the loss read every fifty. One epoch is measured and multiplied. Beside it
stands PyTorch with images that cost nothing to load: its step alone, as often.

What flags of XLA's compiler change is measured last, each beside none, as far as time allows.

Each part runs in a process of its own, which has the card's memory to itself and is stopped when
its time is over; what it has measured until then counts. What fails is left out, with a line.
"""

from __future__ import annotations

import argparse
import functools
import gc
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from affect_jax.core.errors import first_line
from benchmarks import limits, peers, recording
from benchmarks.bare import Ours, compiled
from benchmarks.gpu_table import COMPILED, EAGER, EPOCHS, FACES, OURS, WANTED, rows_of

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch", "torchvision")
EVALUATED = 4_000
SIDE, BATCH = 256, 256
TOGETHER = 10  # updates of a dispatch, as in `affect_jax.train.feeds`
PIECE = 256  # faces made at once
LEAST = 30  # seconds, with less no case is begun
CASES = tuple(
    (name, dtype, size)
    for dtype, size in (("bfloat16", 256), ("bfloat16", 1024), ("float32", 256))
    for name in ("alexnet", "resnet18", "alexnet_one_tower")
)
PARTS = {  # the share of all minutes after which each ends; what memory JAX may take
    "schedule": (0.4, {"XLA_PYTHON_CLIENT_MEM_FRACTION": ".95"}),
    "steps": (0.8, {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),  # half is PyTorch's
    "flags": (1.0, {}),
}
FLAGS = (  # of XLA's compiler, that may help on one card
    "xla_gpu_enable_latency_hiding_scheduler=true",
    "xla_gpu_experimental_enable_fusion_autotuner=true",
    "xla_gpu_enable_triton_gemm=false",
)
Tell = Callable[[dict[str, Any]], Any]
Found = TypeVar("Found")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    if options.child_part:  # in a process of its own
        with options.child_lines.open("a") as file:
            measure(
                options.child_part,
                options,
                lambda found: print(json.dumps(found), file=file, flush=True),
            )
        return
    found: list[dict[str, Any]] = []
    begin = time.time()
    for part, (share, _) in PARTS.items():
        if options.quick:
            measure(part, options, found.append)
        else:
            found += measured_apart(part, arguments, begin + 60 * share * options.minutes)
    if not any(line["part"] in PARTS for line in found):
        raise SystemExit("nothing was measured")
    recording.keep(
        "gpu",
        what="Steps, also with flags of XLA's compiler, in images/s; the schedule in minutes, "
        f"{EPOCHS} epochs of {FACES:,} faces",
        options=options,
        rows=rows_of(found),
        runs=found,
        packages=PACKAGES,
        accelerator=next(line["name"] for line in found if line["part"] == "device"),
    )


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    found = recording.parser(__doc__)
    found.add_argument("--minutes", type=float, default=7.5, help="after which all parts end")
    found.add_argument(
        "--networks", nargs="+", default=["alexnet", "resnet18", "alexnet_one_tower"]
    )
    found.add_argument("--faces", type=int, default=FACES, help="held in the card's memory")
    found.add_argument("--types", nargs="+", default=["bfloat16", "float32"])
    found.add_argument("--width", type=int, help="of alexnet's classifier, instead of 4096")
    found.add_argument("--side", type=int, default=SIDE, help="of a face, pixels")
    found.add_argument("--crop_size", type=int, default=224)
    found.add_argument("--batch_size", type=int, help="instead of 256 and 1024")
    found.add_argument("--steps", type=int, default=20, help="a round; of over 256 images fewer")
    found.add_argument("--dispatches", type=int, help="of ten updates; default: an epoch's")
    found.add_argument("--peers", nargs="*", default=[EAGER, COMPILED], choices=[EAGER, COMPILED])
    found.add_argument("--flags", nargs="*", default=list(FLAGS), help="of XLA, NAME=VALUE")
    found.add_argument("--child_part", choices=list(PARTS), help=argparse.SUPPRESS)
    found.add_argument("--child_lines", type=pathlib.Path, help=argparse.SUPPRESS)
    found.add_argument("--child_until", type=float, default=float("inf"), help=argparse.SUPPRESS)
    quick = {"networks": ["alexnet"], "faces": 24, "side": 72, "crop_size": 67, "batch_size": 4}
    return recording.parse(
        found,
        arguments,
        quick
        | {"types": ["float32"], "width": 16, "steps": 1, "dispatches": 1, "peers": [EAGER]}
        | {"flags": ["xla_cpu_enable_fast_math=false"]},
    )


def measured_apart(
    part: str, arguments: Sequence[str] | None, deadline: float
) -> list[dict[str, Any]]:
    """What a part tells before the deadline, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        lines = pathlib.Path(folder) / "lines"
        command = [sys.executable, "-m", "benchmarks.gpu"]
        command += sys.argv[1:] if arguments is None else list(arguments)
        command += [f"--child_part={part}", f"--child_lines={lines}", f"--child_until={deadline}"]
        try:
            subprocess.run(
                command,
                env=os.environ | PARTS[part][1],
                cwd=recording.FOLDER.parent,
                timeout=max(1.0, deadline - time.time()),
            )
        except subprocess.TimeoutExpired:
            print(f"{part}: stopped, its time is over", file=sys.stderr)
        return (
            [json.loads(line) for line in lines.read_text().splitlines()] if lines.exists() else []
        )


def measure(part: str, options: argparse.Namespace, tell: Tell) -> None:
    if jax.default_backend() == "cpu" and not options.quick:
        raise SystemExit("no GPU is seen by JAX; --quick runs anywhere")
    tell({"part": "device", "name": jax.devices()[0].device_kind})
    scheduled = [name for name in options.networks if name in WANTED]
    if part == "schedule":
        for name in scheduled:
            found = tried(f"schedule, {name}", schedule, name, options)
            if found:
                tell({"part": part, "network": name} | found)
        return
    if part == "flags":
        for name in scheduled:
            for found in of_flags(name, options):
                tell({"part": part, "network": name} | found)
        return
    side = 256 if options.quick else limits.SIDE
    tell({"part": "peak", "flops": tried("the limit", limits.peak, side)})
    count = functools.partial(limits.operations, crop_size=options.crop_size, width=options.width)
    for name, dtype, size in cases(options):
        if time.time() + LEAST > options.child_until:
            print(f"left out for want of time: {name}, {dtype}, {size}", file=sys.stderr)
            continue
        for kind in ("train", "eval"):
            found = {"part": part, "network": name, "type": dtype, "batch": size, "step": kind}
            operations = tried(f"operations of {name}", count, name, training=kind == "train")
            rates = step_rates(name, dtype, size, kind, options)
            tell(found | {"operations": operations, "rates": rates})


def tried(what: str, work: Callable[..., Found], *given: Any, **named: Any) -> Found | None:
    """What `work` returns; None and a line where it fails, so that the others are measured."""
    try:
        return work(*given, **named)
    except Exception as error:  # memory, or a compiler that is missing
        print(f"left out: {what}: {first_line(error)}", file=sys.stderr)
        return None


def cases(options: argparse.Namespace) -> Iterable[tuple[str, str, int]]:
    found = [case for case in CASES if case[0] in options.networks and case[1] in options.types]
    if options.batch_size:
        found = [(name, dtype, options.batch_size) for name, dtype, size in found if size == BATCH]
    return found[:1] if options.quick else found


def schedule(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of one epoch's updates and of one evaluation, and what they were measured on."""
    gc.collect()  # the faces of the last one
    size = options.batch_size or BATCH
    held = min(options.faces, room(options.side))
    dtype, trunk = options.types[0], peers.trunk(name, options.width)
    ours = Ours(trunk, dtype=dtype, crop_size=options.crop_size)
    faces = random_faces(held, options.side)
    random = np.random.default_rng(0)
    labels = jnp.asarray(random.integers(0, 8, held), jnp.int32)
    run, predict = compiled(ours.updates), jax.jit(ours.predict)
    batch = min(size, held)
    dispatches = options.dispatches or FACES // size // TOGETHER
    drawn = random.permutation(np.resize(np.arange(held), (dispatches + 1) * TOGETHER * size))
    rows = drawn.astype(np.int32).reshape(-1, TOGETHER, size)
    state, (loss, _) = run(ours.create(), faces, labels, rows[-1])

    def train() -> None:
        nonlocal state
        for number in range(dispatches):
            state, (loss, _) = run(state, faces, labels, rows[number])
            if number % 5 == 4:
                np.asarray(loss)
        jax.block_until_ready(state)

    def evaluate() -> None:
        starts = (i * batch % (held - batch + 1) for i in range(-(-EVALUATED // batch)))
        several = [predict(state, faces[first : first + batch]) for first in starts]
        jax.block_until_ready(several)

    evaluate()  # compiles
    seconds = recording.seconds_of(train) / (dispatches * TOGETHER)
    evaluation = 0.0 if options.quick else recording.seconds_of(evaluate)
    epoch = FACES // size * seconds + evaluation
    found = {"seconds_a_step": seconds, "seconds_an_evaluation": evaluation, "faces_held": held}
    return found | {
        "steps": dispatches * TOGETHER,
        "minutes": EPOCHS * epoch / 60,
        "batch": size,
        "type": dtype,
    }


def room(side: int) -> int:
    """Faces that the first device's memory can hold beside a network, or the machine's half."""
    stats = jax.devices()[0].memory_stats() or {}
    if "bytes_limit" in stats:  # AlexNet's and ResNet18's steps of 256 need some 5 GiB
        free = stats["bytes_limit"] - stats["bytes_in_use"] - (6 << 30)
    else:
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") // 2
    return max(1, free // (3 * side**2))


def random_faces(count: int, side: int) -> jax.Array:
    """uint8 [count, side, side, 3], made piece by piece where they stay."""
    piece = min(PIECE, count)

    @functools.partial(jax.jit, donate_argnums=0)
    def write(faces: jax.Array, first: jax.Array) -> jax.Array:
        key = jax.random.fold_in(jax.random.key(1), first)
        made = jax.random.bits(key, (piece, side, side, 3), jnp.uint8)
        return lax.dynamic_update_slice_in_dim(faces, made, first, axis=0)

    faces = jnp.zeros((count, side, side, 3), jnp.uint8)
    for first in range(0, count, piece):  # the last piece is moved back to where it fits
        faces = write(faces, jnp.int32(first))
    return faces


def of_flags(name: str, options: argparse.Namespace) -> Iterable[dict[str, Any]]:
    """Images/s of a training step in every round with a flag, in turns with none; of each flag."""
    dtype, size = options.types[0], options.batch_size or BATCH

    def contender(flag: str) -> Callable[[], float | None] | None:
        what = f"{name} with {flag or 'no flag'}"
        if time.time() + LEAST > options.child_until:
            print(f"left out for want of time: {what}", file=sys.stderr)
            return None
        make = functools.partial(our_take, name, dtype, size, "train", options, flag)
        take = tried(what, warm, make, 1 if options.quick else 5)
        return take and functools.partial(tried, what, rate, take, options.steps, size)

    plain = contender("")
    for flag in options.flags:
        if plain and (take := contender(flag)):
            rates = recording.take_turns({"": plain, flag: take}, options.rounds)
            if None not in rates[""] + rates[flag]:
                yield {"type": dtype, "batch": size, "flag": flag, "rates": rates}


def step_rates(
    name: str, dtype: str, size: int, kind: str, options: argparse.Namespace
) -> recording.Runs:
    """Images/s in every round, of the contenders that failed in none: ratios are of rounds."""
    gc.collect()  # what the last ones held
    if peers.device().type == "cuda":
        peers.torch().cuda.empty_cache()
    case = (name, dtype, size, kind)
    makers = {OURS: functools.partial(our_take, *case, options)}
    for peer in options.peers:
        makers[peer] = functools.partial(torch_take, *case, options, peer == COMPILED)
    steps = max(1, options.steps * BATCH // max(size, BATCH))  # of larger batches fewer
    turns = {}
    for contender, make in makers.items():
        what = ", ".join(map(str, (contender, *case)))
        take = tried(what, warm, make, 1 if options.quick else 5)
        if take:
            turns[contender] = functools.partial(tried, what, rate, take, steps, size)
    rates = recording.take_turns(turns, options.rounds)
    return {contender: found for contender, found in rates.items() if None not in found}


def warm(make: Callable[[], Callable[[int], Any]], steps: int) -> Callable[[int], Any]:
    """A contender that is made, and has compiled."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the peers' remarks on their own insides
        take = make()
        take(steps)
    return take


def rate(take: Callable[[int], Any], steps: int, size: int) -> float:
    return steps * size / recording.seconds_of(lambda: take(steps))


def of_text(flag: str) -> dict[str, Any]:
    """`NAME=VALUE` as JAX takes it, of which truth must be no text."""
    name, _, value = flag.partition("=")
    try:
        return {name: json.loads(value)}
    except ValueError:
        return {name: value}


def our_take(
    name: str, dtype: str, size: int, kind: str, options: argparse.Namespace, flag: str = ""
) -> Callable[[int], Any]:
    """**Arguments:** `flag`: of XLA's compiler, for a training step."""
    ours = Ours(peers.trunk(name, options.width), dtype=dtype, crop_size=options.crop_size)
    images = random_faces(size, options.side)
    index = jnp.arange(size, dtype=jnp.int32)
    labels = index % 8
    state = ours.create()
    if kind == "eval":
        predict = jax.jit(ours.predict)
        return lambda count: jax.block_until_ready([predict(state, images) for _ in range(count)])
    update = compiled(ours.update, of_text(flag) if flag else None)

    def train(count: int) -> None:
        nonlocal state
        for _ in range(count):
            state, _ = update(state, images, labels, index)
        jax.block_until_ready(state)

    return train


def torch_take(
    name: str, dtype: str, size: int, kind: str, options: argparse.Namespace, compiled: bool
) -> Callable[[int], Any]:
    side = peers.Side(
        name, dtype=dtype, crop_size=options.crop_size, compiled=compiled, width=options.width
    )
    shape = (size, options.crop_size, options.crop_size, 3)
    images = peers.normalized(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    labels = peers.torch().arange(size, device=peers.device()) % 8

    def take(count: int) -> None:
        for _ in range(count):
            side.update(images, labels) if kind == "train" else side.predict(images)
        peers.synchronize()

    return take


if __name__ == "__main__":
    main()
