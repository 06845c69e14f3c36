"""Who may ask: a bearer token where one is set; where none is, only pages that came from this machine by its own names."""

import hmac
from collections.abc import Callable
from urllib.parse import urlsplit

from aiohttp import web

from gateway.config import Config
from gateway.console.answers import answer
from gateway.console.pages import ADDRESSES

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_OPEN = frozenset({"/healthz", *ADDRESSES})
_PAGES = ("/static/", "/streams/", "/traces/")
"""Documents and files of the console hold no fact of any stream: they ask for the token, and then ask the API with it."""
_FEEDS = frozenset({"/api/live", "/api/streams/{stream_id}/text"})
"""What goes on for as long as somebody listens: a page of another site could not read it, but could make it cost something."""
_ELSEWHERE = frozenset({"cross-site", "same-site"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Built over the recorder's configuration, whichever it has; `check` returns the refusal, or None."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config

    def check(self, request: web.Request) -> web.Response | None:
        """Say no to whom no path is open, and to a change that a form on some page could have made a browser ask for."""
        if refusal := self._stranger(request):
            return refusal
        if _path(request) in _FEEDS and request.headers.get("Sec-Fetch-Site", "") in _ELSEWHERE:
            return answer({"error": "a page of another site may not listen here"}, 403)
        known = request.match_info.http_exception is None
        if known and request.method not in _SAFE and request.content_type != "application/json":
            return answer({"error": "a change needs Content-Type: application/json"}, 415)
        return None

    def _stranger(self, request: web.Request) -> web.Response | None:
        """Without a token a web page elsewhere could reach us through a name that it rebinds to this machine: its Host tells."""
        admin = self._config().admin
        if admin.token is None:
            if _host(request.host) in _LOOPBACK | {admin.host}:
                return None
            return answer({"error": "this Host is not served; use 127.0.0.1 or localhost, or set admin.token"}, 403)
        bears = _bears(request.headers.get("Authorization", ""), admin.token.get_secret_value())
        if request.path in _OPEN or request.path.startswith(_PAGES) or bears:
            return None
        refusal = answer({"error": "a bearer token is needed"}, 401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal


def _path(request: web.Request) -> str | None:
    """Return the path as it was added to the application, with the names of its parts."""
    resource = request.match_info.route.resource
    return None if resource is None else resource.canonical


def _bears(header: str, token: str) -> bool:
    scheme, _, given = header.partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), token.encode())


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
