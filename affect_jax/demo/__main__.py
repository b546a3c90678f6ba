"""The command: a run's network on a page of this machine.

    python -m affect_jax.demo --checkpoint=runs/weighted

Only this machine can open the page, and no image leaves it or is kept: `affect_jax.demo.server`.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
from collections.abc import Sequence

from affect_jax.core.cli import Parser, answering
from affect_jax.core.errors import UserError
from affect_jax.predict.__main__ import add_network_flags, load

BATCH_SIZE = 4  # most pictures have a face or two, and one waits for the answer


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m affect_jax.demo",
        description="Serves a page on this machine for pictures and a webcam.",
        allow_abbrev=False,
    )
    add_network_flags(made)
    made.add_argument("--port", type=int, default=8080, help="of 127.0.0.1; 0: any that is free")
    return made


@answering
def main(arguments: Sequence[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    with contextlib.closing(listen(given.port)) as listening:
        return serve(given, listening)


def listen(port: int) -> socket.socket:
    """A socket of this machine alone.

    **Raises:** `UserError` where the port cannot be had.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen()  # who comes before the network is there waits
    except (OSError, OverflowError) as error:
        listening.close()
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"--port={port}: {reason}; choose another one") from error
    return listening


def serve(given: argparse.Namespace, listening: socket.socket) -> int:
    # The libraries load once the flags are known to be right.
    try:
        import uvicorn

        from affect_jax.demo import server
    except ImportError as error:
        raise UserError(f"the page needs {error.name}; pip install 'affect_jax[demo]'") from None
    predictor = load(given, BATCH_SIZE)
    config = uvicorn.Config(
        server.create_app(predictor), log_level="warning", access_log=False, server_header=False
    )
    print(f"http://127.0.0.1:{listening.getsockname()[1]} (Ctrl-C ends it)", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listening])
    return 0


if __name__ == "__main__":
    sys.exit(main())
