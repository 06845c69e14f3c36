"""Starts Phoenix with its gRPC port on 127.0.0.1: it has no setting for that and would bind every interface. Run by its own Python."""

import sys
from typing import Any

from grpc.aio import Server
from phoenix.server.main import main

anywhere = Server.add_insecure_port


def on_loopback(server: Any, address: str) -> int:
    return int(anywhere(server, address.replace("[::]", "127.0.0.1")))


Server.add_insecure_port = on_loopback
sys.argv = ["phoenix", "serve"]
sys.exit(main())
