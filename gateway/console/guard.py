"""Who may ask: a bearer token where one is set; where none is, only pages that came from this machine by its own names."""

import hmac
from urllib.parse import urlsplit

from aiohttp import web

from gateway.config import Config
from gateway.console.answers import answer

_OPEN = frozenset({"/healthz"})
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Guard:
    """Built from the admin section of a config; `check` returns the refusal, or None."""

    def __init__(self, config: Config) -> None:
        token = config.admin.token
        self._token = token.get_secret_value().encode() if token is not None else None
        self._hosts = _LOOPBACK | {config.admin.host}

    def check(self, request: web.Request) -> web.Response | None:
        """Without a token a web page elsewhere could reach us through a name that it rebinds to this machine: its Host tells."""
        if self._token is None:
            if _host(request.host) in self._hosts:
                return None
            return answer({"error": "this Host is not served; use 127.0.0.1 or localhost, or set admin.token"}, 403)
        if request.path in _OPEN or self._bears(request.headers.get("Authorization", "")):
            return None
        refusal = answer({"error": "a bearer token is needed"}, 401)
        refusal.headers["WWW-Authenticate"] = "Bearer"
        return refusal

    def _bears(self, header: str) -> bool:
        scheme, _, given = header.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token or b"")


def _host(header: str) -> str:
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""
