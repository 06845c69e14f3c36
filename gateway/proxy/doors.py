"""Which of our doors a request stands before: found by method and path, the values in its path handed along."""

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from aiohttp import HttpVersion11, web

from gateway.core.errors import GatewayError, Rejected
from gateway.dialects.base import Dialect, Registry

JSON = {"Content-Type": "application/json"}
Params = Mapping[str, str]
Serve = Callable[[web.BaseRequest, Params], Awaitable[web.StreamResponse]]
Methods = dict[str, Serve]

_NOTHING: Params = {}
_NAME = re.compile(r"\\\{(\w+)\\\}")


class Doors:
    """The data plane's table of paths. A path with `{names}` is matched as it was sent, so that a value may hold an encoded slash."""

    def __init__(self, dialects: Registry) -> None:
        self._dialects = dialects
        self._plain: dict[str, Methods] = {}
        self._templates: list[tuple[re.Pattern[str], Methods]] = []

    def add(self, method: str, path: str, serve: Serve) -> None:
        """Open a door; what answers GET answers HEAD too."""
        methods = self._plain.setdefault(path, {})
        if "{" in path and not methods:
            self._templates.append((re.compile(_NAME.sub(r"(?P<\1>.+)", re.escape(path))), methods))
        methods.update({method: serve} | ({"HEAD": serve} if method == "GET" else {}))

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a request, an unknown one in words that an SDK can show."""
        path = request.rel_url.raw_path
        methods, params = self._plain.get(path), _NOTHING
        if methods is None:
            methods, params = self._matching(path)
        serve = methods.get(request.method)
        if serve is None:
            return self._refusal(request, methods)
        if request.headers.get("Upgrade", "").lower() == "websocket" and request.method != "GET":
            return self._refused(request, Rejected("this path takes no WebSocket", code="not_implemented", status=501))
        if "Expect" in request.headers and request.version >= HttpVersion11 and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await serve(request, params)

    def _matching(self, path: str) -> tuple[Methods, Params]:
        for pattern, methods in self._templates:
            if (found := pattern.fullmatch(path)) is not None:
                return methods, {name: unquote(value) for name, value in found.groupdict().items()}
        return {}, _NOTHING

    def _refusal(self, request: web.BaseRequest, methods: Methods) -> web.Response:
        if not methods:
            return self._refused(request, Rejected(f"there is no {request.path[:200]} here", code="not_found", status=404))
        takes = " or ".join(methods)
        refusal = self._refused(request, Rejected(f"{request.path[:200]} takes {takes}", code="method_not_allowed", status=405))
        refusal.headers["Allow"] = ", ".join(methods)
        return refusal

    def _refused(self, request: web.BaseRequest, error: GatewayError) -> web.Response:
        return web.Response(status=error.status, body=self._nearest(request.path).error_body(error), headers=JSON)

    def _nearest(self, path: str) -> Dialect:
        """Return the dialect of whose doors this path might have been one: the one it shares most of its beginning with."""
        asked = path.split("/")
        dialects = list(self._dialects.values())
        return max(dialects, key=lambda dialect: max(_shared(asked, endpoint.path.split("/")) for endpoint in dialect.endpoints))


def _shared(one: list[str], other: list[str]) -> int:
    """Count the equal segments that two paths begin with."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs and "{" not in theirs:
            break
        count += 1
    return count
