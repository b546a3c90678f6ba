"""Command `demo`: serves a web page for a run's network on this machine.

    python -m affect_jax.demo --workdir=runs/weighted

The page is reachable from this machine only, and images are neither sent elsewhere nor stored. See
`affect_jax.demo.server`.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from affect_jax.core.cli import ArgumentParser, handle_cli_errors
from affect_jax.core.errors import UserError
from affect_jax.predict.__main__ import add_predictor_flags, create_predictor

BATCH_SIZE = 4  # most images have one or two faces, and a user waits for the answer


@handle_cli_errors
def main(arguments: Sequence[str]) -> int:
    """Serves the page until Ctrl-C; returns the exit code."""
    parser = ArgumentParser("demo", "Serves a web page on this machine for images and a webcam.")
    add_predictor_flags(parser)
    parser.add_argument(
        "--port", type=int, default=8080, help="port on 127.0.0.1; 0: any free port"
    )
    args = parser.parse_args(arguments)
    from affect_jax.demo.server import Server  # heavy; errors in flags appear at once

    try:
        server = Server(args.port)
    except (OSError, OverflowError) as error:
        raise UserError(f"--port={args.port}: {error}; choose another port") from error
    with server:
        server.predictor = create_predictor(args, batch_size=BATCH_SIZE)
        print(f"http://127.0.0.1:{server.server_port} (press Ctrl-C to stop)", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
