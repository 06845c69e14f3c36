"""Opens a realtime session at an upstream: the WebSocket handshake, with the upstream's own key, before a client has been accepted."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import SimpleNamespace

import aiohttp
from msgspec import Struct
from yarl import URL

from gateway.core.errors import ConnectFailed, UpstreamError
from gateway.proxy.dial import connect_failed
from gateway.proxy.headers import retry_after
from gateway.proxy.upstream import Pool

CLOSING_SECONDS = 0.8
"""How long a peer may take to answer a close frame before its connection is cut."""
MAX_REFUSAL = 64 * 1024
SWITCHING = 101


class Opening(Struct, frozen=True):
    """What an upstream is asked: a path with its query below its base URL, headers, subprotocols; and the largest message taken of it."""

    path: str
    headers: Sequence[tuple[str, str]]
    protocols: Sequence[str]
    largest: int


class Refused(UpstreamError):
    """The upstream answered the handshake with a status of its own; `headers` and `body` are its answer, body None if not a whole one."""

    def __init__(self, name: str, status: int, headers: Mapping[str, str], body: bytes | None) -> None:
        told = status if status >= 400 else None  # a redirect, or an answer as if no session had been asked for, is no client's business
        super().__init__(
            f"upstream {name} answered {status} to the WebSocket handshake",
            code=str(status),
            status=told,
            retry_after=retry_after(headers),
        )
        self.headers, self.body = headers, body if told else None


class Line:
    """An open session at an upstream."""

    __slots__ = ("_session", "headers", "transport", "ws")

    def __init__(
        self,
        session: aiohttp.ClientSession,
        ws: "aiohttp.ClientWebSocketResponse[bool]",
        transport: asyncio.Transport,
        headers: Mapping[str, str],
    ) -> None:
        self._session, self.ws, self.transport, self.headers = session, ws, transport, headers

    async def close(self, code: int, reason: bytes) -> None:
        """Say why the session ends, and wait a moment for the upstream to agree; its connection is gone afterwards."""
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(CLOSING_SECONDS):
                    await self.ws.close(code=code, message=reason)
        finally:
            self.transport.abort()
            await self._session.close()


class _Handshake:
    """Sees an upstream's answer before aiohttp does: what does not switch protocols is the answer, redirects included."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.transport: asyncio.Transport | None = None
        self.response: aiohttp.ClientResponse | None = None
        self.headers: Mapping[str, str] = {}

    async def __call__(self, request: aiohttp.ClientRequest, ask: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        response = self.response = await ask(request)
        self.headers = {name.lower(): value for name, value in response.headers.items()}
        if response.status != SWITCHING:
            body = await _whole(response)
            response.close()
            raise Refused(self._name, response.status, self.headers, body)
        if response.connection is not None:
            self.transport = response.connection.transport
        return response


async def _whole(response: aiohttp.ClientResponse) -> bytes | None:
    """Return a body of bearable size, else None."""
    body = b""
    with suppress(aiohttp.ClientError):
        while len(body) <= MAX_REFUSAL:
            if not (piece := await response.content.readany()):
                return body
            body += piece
    return None


async def open_line(pool: Pool, opening: Opening, connected: Callable[[], None]) -> Line:
    """Open a session, all of it within the upstream's `connect_timeout`; `connected` is called once the handshake goes out.

    Raises ConnectFailed when there is no connection or no answer to the handshake, and Refused when the answer is a status.
    """
    handshake = _Handshake(pool.name)
    session = _session(handshake, connected)
    try:
        async with asyncio.timeout(pool.config.connect_timeout):
            ws = await session.ws_connect(
                URL(pool.address + pool.prefix + opening.path, encoded=True),
                headers=list(opening.headers),
                protocols=opening.protocols,
                ssl=pool.origin.tls if pool.origin.tls is not None else True,
                autoclose=False,
                autoping=False,
                compress=0,
                max_msg_size=opening.largest,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=CLOSING_SECONDS),
            )
        assert handshake.transport is not None
        return Line(session, ws, handshake.transport, handshake.headers)
    except BaseException as error:
        if handshake.response is not None:
            handshake.response.close()
        await session.close()
        if isinstance(error, OSError | UnicodeError | aiohttp.ClientError | ValueError):
            raise _failed(error, pool.name) from error
        raise


def _session(handshake: _Handshake, connected: Callable[[], None]) -> aiohttp.ClientSession:
    """Return a client of this one session: no proxies or credentials of the environment, no cookies, no redirects, no limits of its own."""

    async def on_connected(_: aiohttp.ClientSession, __: SimpleNamespace, ___: object) -> None:
        connected()

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(on_connected)
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        cookie_jar=aiohttp.DummyCookieJar(),
        middlewares=(handshake,),
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        skip_auto_headers=("User-Agent", "Accept"),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        trace_configs=[tracing],
        trust_env=False,
    )


def _failed(error: BaseException, name: str) -> ConnectFailed:
    """Return the one error of ours for whatever aiohttp raised."""
    if isinstance(error, aiohttp.ClientResponseError | ValueError) and not isinstance(error, OSError | UnicodeError):
        return ConnectFailed(f"upstream {name}: its answer to the handshake is none", code="bad_response")
    if isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, ssl.SSLError):
        return connect_failed(error.os_error, name)
    if isinstance(error, aiohttp.ServerDisconnectedError | aiohttp.ClientPayloadError):
        return connect_failed(ConnectionResetError(), name)
    return connect_failed(error, name)
