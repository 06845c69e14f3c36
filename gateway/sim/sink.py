"""An OTLP/HTTP receiver that accepts everything and keeps only a count: what the benchmark's Weir exports its spans to.

`python -m gateway.sim.sink PORT` serves until it is killed; GET / answers {"posts": n, "bytes": n}.
"""

import asyncio
import sys

import uvloop
from aiohttp import web


class Sink:
    """Counts what it swallows."""

    def __init__(self) -> None:
        self.posts = 0
        self.bytes = 0

    async def swallow(self, request: web.Request) -> web.Response:
        self.bytes += len(await request.read())
        self.posts += 1
        return web.Response(content_type="application/x-protobuf")

    async def count(self, _: web.Request) -> web.Response:
        return web.json_response({"posts": self.posts, "bytes": self.bytes})


def application() -> web.Application:
    sink, app = Sink(), web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", sink.swallow)
    app.router.add_get("/", sink.count)
    return app


def main() -> None:
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    web.run_app(application(), host="127.0.0.1", port=int(sys.argv[1]), loop=loop, access_log=None, print=lambda *_: None)


if __name__ == "__main__":
    main()
