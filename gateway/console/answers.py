"""How every answer of the API looks: JSON, never cached, never guessed at by a browser."""

from typing import Any

import orjson
from aiohttp import web

HEADERS = {"Cache-Control": "no-store", "Server": "weir", "X-Content-Type-Options": "nosniff"}


def answer(body: Any, status: int = 200) -> web.Response:
    """Return `body` as JSON; infinity becomes null."""
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json", headers=HEADERS)
