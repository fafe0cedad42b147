"""A page to try nets on: `fcnlite serve`."""

from __future__ import annotations

import argparse
import socket
from collections.abc import Sequence
from pathlib import Path

from fcnlite.commands.options import (
    Parser,
    add_device_options,
    add_memory_option,
    add_net_options,
    at_least,
    guarded,
    load_net,
    use_device,
)
from fcnlite.errors import InputError

_HELP = """\
Serve a page on this machine to drop pictures on, and an HTTP interface.

  fcnlite serve --weights fcn8s.h5                       then open http://127.0.0.1:8000
  fcnlite serve --weights fcn32s.h5 --weights fcn8s.h5   two nets side by side

  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/api/segment' > labels.png
  curl --data-binary @photo.jpg 'http://127.0.0.1:8000/api/segment?format=json&net=fcn8s'

/api/openapi.json describes the interface. Nothing is asked of other machines, and only this one is answered. One
picture is computed at a time; others wait for their turn.
"""


def _parser() -> argparse.ArgumentParser:
    parser = Parser("fcnlite serve", description=_HELP)
    parser.add_argument(
        "--weights",
        required=True,
        action="append",
        type=Path,
        metavar="FILE",
        help="NET.h5, a snapshot, or a .caffemodel; once for each net",
    )
    add_net_options(parser)
    parser.add_argument("--output", metavar="BLOB", help="the scores to use (default: the first output)")
    group = parser.add_argument_group("the server")
    group.add_argument(
        "--port", type=at_least(0), default=8000, metavar="N", help="0: any free one (default: 8000)"
    )
    group.add_argument(
        "--max-pixels",
        type=at_least(1),
        default=1_000_000,
        metavar="N",
        help="of a picture; the page shrinks larger ones (default: 1000000)",
    )
    group.add_argument(
        "--max-bytes", type=at_least(1), default=20_000_000, metavar="N", help="of a file (default: 20000000)"
    )
    group.add_argument(
        "--queue", type=at_least(0), default=16, metavar="N", help="pictures that may wait (default: 16)"
    )
    group.add_argument(
        "--timeout", type=at_least(1), default=60, metavar="SECONDS", help="for an answer (default: 60)"
    )
    add_memory_option(parser)
    add_device_options(parser)
    return parser


@guarded("fcnlite serve")
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns its exit status."""
    options = _parser().parse_args(arguments)
    try:
        import uvicorn

        from fcnlite.serve import Limits, Model, create_app
        from fcnlite.serve.model import named_apart
    except ImportError as error:
        raise InputError(f"the package {error.name} is missing: pip install 'fcnlite[serve]'") from None
    use_device(options.device, options.threads, options.fast)
    listening = _listen(options.port)
    models = []
    for path in options.weights:
        net = load_net(argparse.Namespace(**{**vars(options), "weights": path}))
        net.notes = net.notes.use(options.mean, options.scale)
        models.append(Model.of(net, path, options.output, options.memory))
    limits = Limits(options.max_bytes, options.max_pixels, options.queue, options.timeout)
    config = uvicorn.Config(
        create_app(named_apart(models), limits),
        log_level="warning",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=2,
        server_header=False,
    )
    listening.listen()  # whoever reads the address is answered, if a little later
    print(f"http://127.0.0.1:{listening.getsockname()[1]}  (Ctrl-C ends it)", flush=True)
    uvicorn.Server(config).run(sockets=[listening])
    return 0


def _listen(port: int) -> socket.socket:
    """A socket on this machine's own address, which no other machine reaches."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        listening.close()
        raise InputError(f"--port {port}: {getattr(error, 'strerror', None) or error}") from None
    return listening
