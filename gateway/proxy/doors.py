"""Which of our doors a request stands before: found by method and path, the values in its path handed along."""

import re
from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import unquote

from aiohttp import HttpVersion10, HttpVersion11, web

from gateway.core.errors import GatewayError, Misframed, Rejected
from gateway.dialects.base import Dialect, Registry
from gateway.proxy.reply import SERVER

JSON = {"Content-Type": "application/json", "Server": SERVER}
"""Of every answer that is ours. What we are made of, and in which version, is nobody's business."""
Params = Mapping[str, str]
Serve = Callable[[web.BaseRequest, Params], Awaitable[web.StreamResponse]]
Methods = dict[str, Serve]

_NOTHING: Params = {}
TUNNELS = frozenset({"CONNECT", "TRACE"})
"""Methods that would make us somebody's proxy, or read a request's headers back to whoever made a browser send it."""
ELSEWHERE = frozenset({"cross-site", "same-site"})
"""What a browser says of a request that a page of another site makes (Fetch Metadata): it would spend the operator's money."""
_NAME = re.compile(r"\\\{(\w+)\\\}")


class Doors:
    """The data plane's table of paths. A path with `{names}` is matched as it was sent, so that a value may hold an encoded slash."""

    def __init__(self, dialects: Registry, is_open: Callable[[], bool] = lambda: False) -> None:
        self._dialects, self._is_open = dialects, is_open
        self._plain: dict[str, Methods] = {}
        self._templates: list[tuple[re.Pattern[str], Methods]] = []
        self._upgrading: set[Serve] = set()

    def add(self, method: str, path: str, serve: Serve, *, upgrades: bool = False) -> None:
        """Open a door; what answers GET answers HEAD too. One that `upgrades` may be asked for a WebSocket."""
        if upgrades:
            self._upgrading.add(serve)
        methods = self._plain.setdefault(path, {})
        if "{" in path and not methods:
            self._templates.append((re.compile(_NAME.sub(r"(?P<\1>.+)", re.escape(path))), methods))
        methods.update({method: serve} | ({"HEAD": serve} if method == "GET" else {}))

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve a request, an unknown one in words that an SDK can show."""
        if (fault := _oddity(request)) is not None:
            return self._refused(request, fault)
        if request.headers.get("Sec-Fetch-Site", "") in ELSEWHERE and not self._is_open():
            return self._refused(request, Misframed("a page of another site may not call this gateway", code="cross_site", status=403))
        path = request.rel_url.raw_path
        methods, params = self._plain.get(path), _NOTHING
        if methods is None:
            methods, params = self._matching(path)
        serve = methods.get(request.method)
        if "Upgrade" in request.headers and _asks_websocket(request) and serve not in self._upgrading:
            return self._refused(request, Misframed("this path takes no WebSocket", code="not_implemented", status=501))
        if serve is None:
            return self._refusal(request, methods)
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
        response = web.Response(status=error.status, body=self._nearest(request.path).error_body(error), headers=JSON)
        if error.hangs_up:
            response.force_close()
        return response

    def _nearest(self, path: str) -> Dialect:
        """Return the dialect of whose doors this path might have been one: the one it shares most of its beginning with."""
        asked = path.split("/")
        dialects = list(self._dialects.values())
        return max(dialects, key=lambda dialect: max(_shared(asked, endpoint.path.split("/")) for endpoint in dialect.endpoints))


def _oddity(request: web.BaseRequest) -> Misframed | None:
    """Return what is wrong with a request that aiohttp takes and that another hop may take for something else (RFC 9112, 6.1 and 6.3)."""
    headers, version = request.headers, request.version
    if version not in (HttpVersion11, HttpVersion10):
        return Misframed("this gateway speaks HTTP/1.1", code="bad_version", status=505)
    if "Transfer-Encoding" in headers:
        if version != HttpVersion11 or headers["Transfer-Encoding"].strip().lower() != "chunked":
            return Misframed("a body comes with its length, or chunked, and in no other way")
        if "Content-Length" in headers:
            return Misframed("a body has a length or comes in chunks, not both")
    if "Expect" in headers and headers["Expect"].strip().lower() != "100-continue":
        return Misframed("nothing but 100-continue can be expected", code="expectation_failed", status=417)
    if request.method in TUNNELS:
        return Misframed(f"this gateway does not {request.method}", code="method_not_allowed", status=405)
    return None


def _asks_websocket(request: web.BaseRequest) -> bool:
    return "websocket" in {token.strip().lower() for token in request.headers["Upgrade"].split(",")}


def _shared(one: list[str], other: list[str]) -> int:
    """Count the equal segments that two paths begin with."""
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs and "{" not in theirs:
            break
        count += 1
    return count
