"""The relay that anyone would write first: an aiohttp client pulled chunk by chunk into an aiohttp response. Only the benchmark's baseline.

It observes nothing, holds no account, survives little. `python -m gateway.sim.naive PORT UPSTREAM_BASE` serves until it is killed.
"""

import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

UPSTREAM = web.AppKey("upstream", str)
SESSION = web.AppKey("session", ClientSession)
MAX_BODY = 20 * 1024 * 1024


async def relay(request: web.Request) -> web.StreamResponse:
    """Send the call on as it came and write every chunk as it is read."""
    url = request.app[UPSTREAM] + request.path_qs
    headers = {"Content-Type": request.content_type, "Accept-Encoding": "identity"}
    async with request.app[SESSION].post(url, data=await request.read(), headers=headers) as answer:
        response = web.StreamResponse(status=answer.status, headers={"Content-Type": answer.content_type})
        response.enable_chunked_encoding()
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
        return response


async def open_session(app: web.Application) -> None:
    # The defaults (100 connections, 300 s in all) would measure the defaults, not the relay.
    app[SESSION] = ClientSession(connector=TCPConnector(limit=0), timeout=ClientTimeout(total=None))


async def close_session(app: web.Application) -> None:
    await app[SESSION].close()


def application(upstream: str) -> web.Application:
    """Return the relay in front of `upstream`, a base such as http://127.0.0.1:9001."""
    app = web.Application(client_max_size=MAX_BODY)
    app[UPSTREAM] = upstream
    app.on_startup.append(open_session)
    app.on_cleanup.append(close_session)
    app.router.add_post("/{path:.*}", relay)
    return app


def main() -> None:
    port, upstream = int(sys.argv[1]), sys.argv[2]
    loop = uvloop.new_event_loop()
    app = application(upstream)
    web.run_app(app, host="127.0.0.1", port=port, loop=loop, access_log=None, print=lambda *_: None, handler_cancellation=True)


if __name__ == "__main__":
    main()
