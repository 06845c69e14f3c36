"""Opens connections to upstreams: names, happy eyeballs, HTTP CONNECT proxies, TLS, and one map from what fails to one clear error."""

import asyncio
import base64
import socket
import ssl
import urllib.request
from collections.abc import Callable
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import aiohappyeyeballs
from msgspec import Struct

from gateway.core.errors import ConnectFailed

P = TypeVar("P", bound=asyncio.Protocol)
HAPPY_EYEBALLS_DELAY = 0.25
RECEIVE_BUFFER = 96 * 1024
"""Bytes the kernel may hold for us, and so the most one read brings. Left alone it grows to megabytes before a client that reads slowly,
and one read to more than such a stream may cost. At 100 ms from the upstream it still lets some 8 Mbit/s through."""
MAX_CONNECT_REPLY = 16 * 1024
FAILURES: tuple[tuple[type[BaseException], str, str], ...] = (
    (TimeoutError, "connect_timeout", "no connection within the connect timeout"),
    (ssl.SSLCertVerificationError, "tls_untrusted", "the TLS certificate is not trusted"),
    (ssl.SSLError, "tls_failed", "the TLS handshake failed"),
    (socket.gaierror, "dns_failed", "the host name does not resolve"),
    (ConnectionRefusedError, "connect_refused", "the connection was refused"),
    (ConnectionError, "connect_reset", "the connection was closed during set-up"),
    (OSError, "connect_failed", "no connection could be made"),
)
"""Most specific first: what the libraries raise, our code for it, and our words, which name no address beyond the upstream's own name."""


class Origin(Struct, frozen=True):
    """Where an upstream lives: host, port, and the TLS context when its URL says https."""

    host: str
    port: int
    tls: ssl.SSLContext | None

    @classmethod
    def of(cls, base_url: str, ca_file: str | None = None) -> "Origin":
        url = urlsplit(base_url)
        secure = url.scheme == "https"
        tls = ssl.create_default_context() if secure else None
        if tls is not None and ca_file:
            tls.load_verify_locations(ca_file)
        return cls(url.hostname or "", url.port or (443 if secure else 80), tls)


async def dial(factory: Callable[[], P], origin: Origin, patience: float, name: str) -> P:
    """Connect to an origin and return the protocol on it; raises ConnectFailed with a code from FAILURES."""
    sock = None
    try:
        async with asyncio.timeout(patience):
            sock = await _open_socket(origin)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            server_hostname = origin.host if origin.tls else None
            _, protocol = await asyncio.get_running_loop().create_connection(
                factory, sock=sock, ssl=origin.tls, server_hostname=server_hostname
            )
            return protocol
    except BaseException as error:
        if sock is not None:
            sock.close()
        if isinstance(error, OSError | UnicodeError):  # UnicodeError: a host name that cannot be encoded
            raise connect_failed(error, name) from error
        raise


def connect_failed(error: BaseException, name: str) -> ConnectFailed:
    """Return the one error of ours that stands for whatever a dial raised."""
    for kind, code, words in FAILURES:
        if isinstance(error, kind):
            return ConnectFailed(f"upstream {name}: {words}", code=code)
    return ConnectFailed(f"upstream {name}: no connection could be made")


async def _open_socket(origin: Origin) -> socket.socket:
    if proxy := _proxy_for(origin):
        return await _through_proxy(proxy, origin)
    return await _tcp(origin.host, origin.port)


async def _tcp(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return await aiohappyeyeballs.start_connection(addresses, happy_eyeballs_delay=HAPPY_EYEBALLS_DELAY, loop=loop)


def _proxy_for(origin: Origin) -> str | None:
    """The proxy the environment names for this origin (HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, less NO_PROXY); loopback never has one."""
    if origin.host in {"localhost", "127.0.0.1", "::1"} or urllib.request.proxy_bypass(origin.host):
        return None
    proxies = urllib.request.getproxies()
    return proxies.get("https" if origin.tls else "http") or proxies.get("all")


async def _through_proxy(proxy: str, origin: Origin) -> socket.socket:
    """Ask an HTTP proxy for a tunnel (RFC 9110, 9.3.6): after its 200 the socket is the upstream's."""
    url = urlsplit(proxy if "//" in proxy else f"//{proxy}")
    sock = await _tcp(url.hostname or "", url.port or 8080)
    try:
        loop, target = asyncio.get_running_loop(), f"{origin.host}:{origin.port}"
        ask = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
        if url.username:
            account = f"{unquote(url.username)}:{unquote(url.password or '')}"
            ask += f"Proxy-Authorization: Basic {base64.b64encode(account.encode()).decode()}\r\n"
        await loop.sock_sendall(sock, f"{ask}\r\n".encode())
        reply = b""
        while b"\r\n\r\n" not in reply:
            piece = await loop.sock_recv(sock, 1)  # byte by byte: what follows the head is the upstream's, not ours to swallow
            if not piece or len(reply) > MAX_CONNECT_REPLY:
                raise ConnectionResetError("the proxy closed the tunnel")
            reply += piece
        if reply.split(b" ", 2)[1:2] != [b"200"]:
            raise ConnectionRefusedError("the proxy refused the tunnel")
    except BaseException:
        sock.close()
        raise
    return sock
