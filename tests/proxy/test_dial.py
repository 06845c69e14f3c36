"""Connecting: what can go wrong is one clear error each; TLS is checked; proxies are asked for a tunnel."""

import asyncio
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.errors import ConnectFailed
from gateway.proxy.dial import FAILURES, Origin, connect_failed, dial
from gateway.sim.faults import NO_FAULTS, Always, NeverEnding
from gateway.sim.provider import Connection, Provider
from gateway.sim.tempers import INSTANT
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
ONCE = {"attempts": 1}


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for 127.0.0.1 and provider.test, and its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    names = "subjectAltName=IP:127.0.0.1,DNS:provider.test"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=sim",
    ]
    subprocess.run([*command, "-addext", names, "-keyout", folder / "key", "-out", folder / "cert"], check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "cert").read_bytes() + (folder / "key").read_bytes())
    return both


@pytest.fixture
async def secure(certificate: Path, world: list[Any]) -> AsyncIterator[Provider]:
    """A provider that speaks HTTPS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    provider = Provider(INSTANT, NO_FAULTS)
    provider._server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", 0, ssl=context)
    provider.host, provider.port = provider._server.sockets[0].getsockname()[:2]
    world.append(provider)
    return provider


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is sure to refuse: bound, and nobody listens."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def refused(gate: Any, url: str, **upstream: Any) -> tuple[str, str]:
    """Ask through an upstream that cannot be reached; return the code and the message the client gets."""
    weir = await gate(url, retry=ONCE, upstreams={"a": upstream})
    client = await weir.fetch()
    record = await weir.record()
    error = client.document["error"]
    assert (client.status, error["type"], client.headers["x-weir-attempts"]) == (502, "upstream_error", "1")
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_error", error["code"], "connect_error")
    assert (record.attempts[0].sent_at, weir.targets()[0].last_error) == (None, error["code"])
    return error["code"], error["message"]


async def test_nobody_listens(gate: Any, closed_port: int) -> None:
    """Refused."""
    code, message = await refused(gate, f"http://127.0.0.1:{closed_port}/v1")
    assert (code, message) == ("connect_refused", "upstream a: the connection was refused")


async def test_localhost_refuses_on_every_address(gate: Any, closed_port: int) -> None:
    """A name with several addresses that all refuse is refused."""
    assert (await refused(gate, f"http://localhost:{closed_port}/v1"))[0] == "connect_refused"


async def test_no_such_name(gate: Any) -> None:
    """A host that does not resolve."""
    assert (await refused(gate, "http://no-such-host.invalid/v1"))[0] == "dns_failed"


@judged_in_rounds
async def test_nobody_accepts(gate: Any, full_backlog: str) -> None:
    """A connect that takes longer than `connect_timeout`; the time is the connection's."""
    weir = await gate(full_backlog, retry=ONCE, upstreams={"a": {"connect_timeout": 0.3}})
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, record.error) == (502, "connect_timeout")
    assert 0.25 < record.seconds["connect"] < 1.5


async def test_tls_to_a_plain_port(provide: Any, gate: Any) -> None:
    """https where http is spoken."""
    provider = await provide()
    assert (await refused(gate, provider.base_url.replace("http:", "https:")))[0] in {"tls_failed", "connect_reset"}


async def test_plain_to_a_tls_port(secure: Provider, gate: Any) -> None:
    """http where https is spoken: an answer that is none."""
    weir = await gate(secure.base_url, retry=ONCE)
    assert (await weir.fetch()).status == 502
    assert (await weir.record()).error in {"bad_response", "connection_closed", "connection_reset"}


async def test_a_certificate_nobody_vouches_for(secure: Provider, gate: Any) -> None:
    """Self-signed and not configured: not trusted, and no byte of the call is sent."""
    assert (await refused(gate, secure.base_url.replace("http:", "https:")))[0] == "tls_untrusted"
    assert secure.total == 0


async def test_a_certificate_for_another_name(secure: Provider, gate: Any, certificate: Path) -> None:
    """Vouched for, but for somebody else."""
    url = f"https://localhost:{secure.port}/v1"
    assert (await refused(gate, url, tls_ca=str(certificate)))[0] == "tls_untrusted"


async def test_https_with_a_configured_authority(secure: Provider, gate: Any, certificate: Path) -> None:
    """`tls_ca` makes a private authority trusted: streams and documents go through, on one connection."""
    weir = await gate(secure.base_url.replace("http:", "https:"), upstreams={"a": {"tls_ca": str(certificate)}})
    for stream in (True, False, True):
        client = await weir.fetch(stream=stream)
        assert (client.status, client.complete) == (200, True)
    assert {request.connection for request in secure.requests} == {1}
    assert {record.outcome for record in weir.book.records} == {"completed"}


async def test_a_client_that_leaves_ends_a_tls_upstream(secure: Provider, gate: Any, certificate: Path, until: Any) -> None:
    """What is dropped under TLS is closed at once too (B1)."""
    secure.faults = Always(NeverEnding())
    weir = await gate(secure.base_url.replace("http:", "https:"), upstreams={"a": {"tls_ca": str(certificate)}})
    client = await (await weir.ask()).saw(b"content")
    client.reset()
    await until(lambda: secure.requests[0].closed_by == "peer")
    assert (await weir.record()).outcome == "client_disconnect"


class Tunnel:
    """An HTTP proxy that knows CONNECT, and sends every tunnel to one provider."""

    def __init__(self, provider: Provider, status: bytes = b"200 Connection established") -> None:
        self.provider, self.status, self.asked = provider, status, list[bytes]()

    async def start(self) -> "Tunnel":
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://user:p%40ss@127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 " + self.status + b"\r\nProxy-Agent: x\r\n\r\n")
        if not self.status.startswith(b"200"):
            writer.close()
            return
        there, back = await asyncio.open_connection(self.provider.host, self.provider.port)
        await asyncio.gather(_pump(reader, back), _pump(there, writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


@pytest.fixture
def through(world: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Start a proxy before a provider and name it in the environment."""

    async def start(provider: Provider, variable: str, **more: Any) -> Tunnel:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.lower(), raising=False)
        tunnel = await Tunnel(provider, **more).start()
        world.append(tunnel)
        monkeypatch.setenv(variable, tunnel.url)
        return tunnel

    return start


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "all_proxy"])
async def test_a_proxy_makes_a_tunnel(provide: Any, gate: Any, through: Any, variable: str) -> None:
    """The proxy of the environment is asked to CONNECT, with its account, and then sees only bytes; the name is its to resolve."""
    provider = await provide()
    tunnel = await through(provider, variable)
    weir = await gate("http://provider.test:8000/v1")
    assert [(await weir.fetch()).status for _ in range(2)] == [200, 200]
    assert tunnel.asked == [
        b"CONNECT provider.test:8000 HTTP/1.1\r\nHost: provider.test:8000\r\nProxy-Authorization: Basic dXNlcjpwQHNz\r\n\r\n"
    ]
    assert "proxy-authorization" not in provider.requests[0].headers
    assert provider.requests[0].headers["host"] == "provider.test:8000"


async def test_tls_through_a_proxy(secure: Provider, gate: Any, through: Any, certificate: Path) -> None:
    """Inside the tunnel TLS is with the upstream itself, and its certificate is checked for the upstream's name."""
    tunnel = await through(secure, "HTTPS_PROXY")
    weir = await gate("https://provider.test/v1", upstreams={"a": {"tls_ca": str(certificate)}})
    assert (await weir.fetch()).status == 200
    assert tunnel.asked[0].startswith(b"CONNECT provider.test:443 ")
    assert (await refused(gate, "https://other.test/v1", tls_ca=str(certificate)))[0] == "tls_untrusted"


async def test_a_proxy_that_refuses(provide: Any, gate: Any, through: Any) -> None:
    """No tunnel, no connection."""
    await through(await provide(), "HTTP_PROXY", status=b"407 Proxy Authentication Required")
    assert (await refused(gate, "http://provider.test/v1"))[0] == "connect_refused"


async def test_no_proxy(provide: Any, gate: Any, through: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback is never reached through a proxy, nor is what NO_PROXY names."""
    provider = await provide()
    tunnel = await through(provider, "HTTP_PROXY")
    weir = await gate(provider)
    assert ((await weir.fetch()).status, tunnel.asked) == (200, [])
    monkeypatch.setenv("NO_PROXY", ".invalid")
    assert (await refused(gate, "http://no-such-host.invalid/v1"))[0] == "dns_failed"


@pytest.mark.parametrize(("kind", "code"), [(kind, code) for kind, code, _ in FAILURES])
def test_every_failure_has_one_code(kind: type[BaseException], code: str) -> None:
    """The map is read from the most specific kind down, so no kind hides another."""
    assert connect_failed(kind("secret detail") if kind is not ssl.SSLCertVerificationError else kind(), "a").code == code
    assert "secret" not in connect_failed(kind("secret detail"), "a").message


async def test_a_name_that_cannot_be_a_name() -> None:
    """What no resolver would take fails like any other name."""
    with pytest.raises(ConnectFailed):
        await dial(asyncio.Protocol, Origin("x" * 300 + ".invalid", 80, None), 2.0, "a")
