"""Realtime sessions over real sockets: what each side says and how it leaves reaches the other, and every session is one account."""

import asyncio
import gzip
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import WSMsgType, web

from gateway.core.messages import Begun, Moved
from gateway.core.record import StreamRecord
from gateway.proxy.realtime import PATH
from gateway.stream.voice import VoiceObserver
from tests.rig.rounds import judged_in_rounds

LOOPS = "both"
KEY = "sk-the-clients-own"
OURS = "sk-the-upstreams"
Play = Callable[[web.WebSocketResponse], Awaitable[Any]]


class Upstream:
    """A realtime server that does with each session what `play` says; it keeps the handshakes, and how the sessions ended."""

    def __init__(self, play: Play, status: int = 0, protocols: tuple[str, ...] = (), **more: Any) -> None:
        self._play, self._status, self._protocols, self._more = play, status, protocols, more
        self.handshakes: list[web.BaseRequest] = []
        self.closes: list[tuple[int | None, str]] = []
        self.got: list[tuple[WSMsgType, Any]] = []
        self.sent = 0
        self.ended_at = 0.0

    async def start(self) -> "Upstream":
        self._runner = web.ServerRunner(web.Server(self._serve, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        self._site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await self._site.start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def close(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.handshakes.append(request)
        if self._status:
            return web.Response(status=self._status, **self._more)
        ws = web.WebSocketResponse(protocols=self._protocols, autoclose=False, autoping=False, compress=False, max_msg_size=0, timeout=2)
        await ws.prepare(request)
        try:
            last = await self._play(ws)
            while True:
                message, last = last or await ws.receive(), None
                if message.type in {WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED, WSMsgType.ERROR}:
                    self.closes.append((message.data if message.type is WSMsgType.CLOSE else None, message.extra or ""))
                    break
                self.got.append((message.type, message.data))
        except ConnectionError:
            self.closes.append((None, "lost"))
        finally:
            self.ended_at = time.monotonic()
        await ws.close()
        return ws


async def silent(ws: web.WebSocketResponse) -> None:
    """Listen only."""


async def echo(ws: web.WebSocketResponse) -> Any:
    """Say again what is said, and answer pings; return what else came."""
    while True:
        message = await ws.receive()
        if message.type is WSMsgType.TEXT:
            await ws.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await ws.send_bytes(message.data)
        elif message.type is WSMsgType.PING:
            await ws.pong(message.data)
        else:
            return message


def script(*steps: Any) -> Play:
    """Send events (dicts) with pauses (seconds) between."""

    async def play(ws: web.WebSocketResponse) -> None:
        for step in steps:
            if isinstance(step, dict):
                await ws.send_str(orjson.dumps(step).decode())
            else:
                await asyncio.sleep(step)

    return play


def closing(code: int, message: bytes = b"") -> Play:
    async def play(ws: web.WebSocketResponse) -> None:
        await ws.close(code=code, message=message)

    return play


@pytest.fixture
def speaks(world: list[Any]) -> Callable[..., Any]:
    """Start an upstream."""

    async def start(play: Play = silent, **more: Any) -> Upstream:
        upstream = await Upstream(play, **more).start()
        world.append(upstream)
        return upstream

    return start


@pytest.fixture
async def connect() -> AsyncIterator[Callable[..., Any]]:
    """Open sessions at a gate: compression, answering pings and closing are left to the test."""
    async with aiohttp.ClientSession() as session:

        async def open_session(gate: Any, query: str = "model=m", **more: Any) -> Any:
            options = {"autoping": False, "autoclose": False, "max_msg_size": 0} | more
            return await session.ws_connect(f"http://127.0.0.1:{gate.port}{PATH}?{query}", **options)

        yield open_session


class Mute(asyncio.Protocol):
    """A server that takes connections and never says a word."""

    def __init__(self) -> None:
        self.transports: list[Any] = []

    async def start(self) -> "Mute":
        self.server = await asyncio.get_running_loop().create_server(lambda: self, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}/v1"
        return self

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transports.append(transport)

    async def close(self) -> None:
        for transport in self.transports:
            transport.abort()
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
async def mute(world: list[Any]) -> Mute:
    world.append(server := await Mute().start())
    return server


def voice_of(record: StreamRecord) -> Any:
    assert record.voice is not None
    return record.voice


class StatusOnly:
    """A parser of a handshake's first line; what comes after it is nobody's."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def feed_data(self, data: bytes) -> None:
        self._client.status = self._client.status or int(data[9:12])


@pytest.fixture
def raw(until: Any) -> Callable[..., Any]:
    """Open a session on a raw connection."""

    async def session(gate: Any, **more: Any) -> Any:
        client = await gate.client(**more)
        client.ask(f"GET {PATH}?model=m HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
        client._parser = StatusOnly(client)
        await until(lambda: client.status == 101 and gate.plane.watch.watched)
        return client

    return session


async def refused(connect: Any, gate: Any, **more: Any) -> int:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await connect(gate, **more)
    return caught.value.status


HANDSHAKE = (
    "Host: w\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)


async def test_messages_pass_both_ways_as_they_are(speaks: Any, gate: Any, connect: Any) -> None:
    """Text, binary, pings and their answers: every payload comes back byte for byte, and the session is one completed record."""
    upstream = await speaks(echo)
    weir = await gate(upstream)
    ws = await connect(weir)
    for text in ('{"type": "x"}', "", "ünï \u2028 🎈", "x" * 300_000, '{"type":"response.done","response":17}'):
        await ws.send_str(text)
        assert (await ws.receive()).data == text
    for data in (b"", b"\x00\xff" * 7, bytes(range(256)) * 4096):
        await ws.send_bytes(data)
        assert (await ws.receive()).data == data
    await ws.ping(b"are you there")
    assert (await ws.receive())[:2] == (WSMsgType.PONG, b"are you there")
    await ws.close(code=1000, message=b"bye")
    record = await weir.record()
    assert (record.outcome, record.error, record.operation, record.status) == ("completed", None, "realtime", 101)
    assert (record.asked_model, record.route, record.upstream, record.attempts[0].outcome) == ("m", "chat", "a", "won")
    assert upstream.closes == [(1000, "bye")]
    voice = voice_of(record)
    assert (voice.closed_by, voice.close_code, voice.messages_in, voice.messages_out) == ("client", 1000, 8, 8)
    assert record.bytes == voice.bytes_in
    assert {type(message) for message in weir.book.messages} >= {Begun, Moved}


async def test_a_binary_message_keeps_its_kind(speaks: Any, gate: Any, connect: Any) -> None:
    """What goes in as text comes out as text, what goes in as binary as binary."""
    upstream = await speaks()
    weir = await gate(upstream)
    ws = await connect(weir)
    await ws.send_bytes(b"1")
    await ws.send_str("2")
    await ws.close()
    await weir.record()
    assert upstream.got == [(WSMsgType.BINARY, b"1"), (WSMsgType.TEXT, "2")]


CODES = [(1000, "completed"), (1001, "completed"), (1008, "client_disconnect"), (4321, "client_disconnect")]


@pytest.mark.parametrize(("code", "outcome"), CODES)
async def test_the_clients_close_reaches_the_upstream(speaks: Any, gate: Any, connect: Any, until: Any, code: int, outcome: str) -> None:
    """Code and reason are the client's; its own close is answered with them; nothing of it is the upstream's fault."""
    upstream = await speaks()
    weir = await gate(upstream)
    ws = await connect(weir)
    await ws.close(code=code, message="gründe".encode())
    await until(lambda: upstream.closes)
    assert (upstream.closes, ws.close_code) == ([(code, "gründe")], code)
    record = await weir.record()
    assert (record.outcome, record.error) == (outcome, None if outcome == "completed" else f"close_{code}")
    assert weir.targets()[0].last_error is None


UPSTREAM_CODES = [
    (1000, 1000, "completed", None),
    (1001, 1001, "completed", None),
    (1008, 1008, "upstream_error", None),
    (1011, 1011, "upstream_error", "close_1011"),
    (1013, 1013, "upstream_error", "close_1013"),
    (3000, 3000, "upstream_error", None),
    (4000, 4000, "upstream_error", None),
    (1006, 1011, "upstream_error", None),
]


@pytest.mark.parametrize("case", UPSTREAM_CODES)
async def test_the_upstreams_close_reaches_the_client(speaks: Any, gate: Any, connect: Any, case: tuple[Any, ...]) -> None:
    """Code and reason are the upstream's, a code that may not be sent (1006) stays unsent; only what speaks of itself is its fault."""
    code, told, outcome, fault = case
    weir = await gate(await speaks(closing(code, b"enough")))
    ws = await connect(weir)
    message = await ws.receive()
    assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, told, "enough")
    await ws.close()
    record = await weir.record()
    assert (record.outcome, voice_of(record).closed_by, voice_of(record).close_code) == (outcome, "upstream", code)
    assert weir.targets()[0].last_error == fault


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_close_amid_traffic(speaks: Any, gate: Any, connect: Any, until: Any, who: str) -> None:
    """Whoever is still speaking when the other side leaves hears with which code it left: nothing cuts the line before it could."""

    async def chatter(say: Callable[[bytes], Awaitable[None]]) -> None:
        while True:
            await say(b"z" * 8192)
            await asyncio.sleep(0.001)

    async def play(ws: web.WebSocketResponse) -> None:
        if who == "upstream":
            await asyncio.sleep(0.2)
            await ws.close(code=1008, message=b"enough")
        else:
            speaking = asyncio.get_running_loop().create_task(chatter(ws.send_bytes))
            await asyncio.sleep(0.3)
            speaking.cancel()

    for number in range(5):
        upstream = await speaks(play)
        weir = await gate(upstream)
        ws = await connect(weir)
        speaking = asyncio.get_running_loop().create_task(chatter(ws.send_bytes))
        if who == "client":
            await asyncio.sleep(0.1)
            speaking.cancel()
            await ws.close(code=4001, message=b"enough")
            await until(lambda closes=upstream.closes: closes)
            assert upstream.closes == [(4001, "enough")], number
        else:
            message = await ws.receive()
            assert (message.data, message.extra) == (1008, "enough"), number
            speaking.cancel()
            await ws.close()
        await asyncio.gather(speaking, return_exceptions=True)
        await weir.record()


async def test_a_close_without_a_code(speaks: Any, gate: Any, connect: Any, until: Any) -> None:
    """1005 may not be sent: the other side hears 1000."""
    upstream = await speaks()
    weir = await gate(upstream)
    ws = await connect(weir)
    await ws.send_frame(b"", WSMsgType.CLOSE)
    await until(lambda: upstream.closes)
    assert upstream.closes == [(1000, "")]
    record = await weir.record()
    assert (record.outcome, voice_of(record).close_code) == ("completed", 1005)
    await ws.receive()
    await ws.close()


@judged_in_rounds
async def test_an_upstream_that_vanishes(speaks: Any, gate: Any, connect: Any) -> None:
    """A connection lost without a close frame is told as 1014 at once, and is the upstream's fault."""

    async def vanish(ws: web.WebSocketResponse) -> None:
        ws._req.transport.abort()  # type: ignore[union-attr]

    weir = await gate(await speaks(vanish))
    ws = await connect(weir)
    started = time.monotonic()
    message = await ws.receive()
    assert (message.data, message.extra, time.monotonic() - started < 1.0) == (1014, "the upstream has gone", True)
    await ws.close()
    record = await weir.record()
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_truncated", "connection_lost", "truncated")
    assert weir.targets()[0].last_error == "connection_lost"


async def test_a_normal_close_in_the_middle_of_an_answer_is_truncation(speaks: Any, gate: Any, connect: Any) -> None:
    """An answer that was begun and not ended is no completed session, whatever code the upstream leaves with."""

    async def leave(ws: web.WebSocketResponse) -> None:
        await script({"type": "response.created"})(ws)
        await ws.close(code=1000)

    weir = await gate(await speaks(leave))
    ws = await connect(weir)
    await ws.receive()
    assert (await ws.receive()).data == 1000
    await ws.close()
    assert (await weir.record()).outcome == "upstream_truncated"


@pytest.mark.parametrize("how", ["reset", "close"])
@judged_in_rounds
async def test_a_client_that_vanishes(speaks: Any, gate: Any, raw: Any, until: Any, how: str) -> None:
    """The upstream is told at once, and it is nobody's fault."""
    upstream = await speaks()
    weir = await gate(upstream)
    client = await raw(weir)
    left = getattr(client, how)()
    await until(lambda: upstream.closes)
    assert (upstream.closes, upstream.ended_at - left < 1.0) == ([(1001, "the client has gone")], True)
    record = await weir.record()
    assert (record.outcome, record.attempts[0].error, weir.targets()[0].last_error) == ("client_disconnect", None, None)


async def test_a_close_frame_and_the_end_of_the_connection_in_one_go(speaks: Any, gate: Any, raw: Any) -> None:
    """A client that says goodbye and hangs up at once has left properly."""
    upstream = await speaks()
    weir = await gate(upstream)
    client = await raw(weir)
    client.transport.write(b"\x88\x82\x00\x00\x00\x00\x03\xe8")
    client.transport.close()
    record = await weir.record()
    assert (record.outcome, upstream.closes) == ("completed", [(1000, "")])


async def test_no_key_of_the_client_goes_upstream(speaks: Any, gate: Any, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither as a header, nor as a subprotocol, nor in the query, nor into a log; the upstream gets its own, and its own model."""
    caplog.set_level(logging.DEBUG)
    upstream = await speaks(protocols=("realtime",))
    more = {"a": {"api_key": OURS, "headers": {"X-Added": "yes"}, "trace": True}}
    weir = await gate(upstream, upstreams=more, targets=[{"upstream": "a", "model": "theirs"}])
    headers = {
        "Authorization": f"Bearer {KEY}",
        "api-key": KEY,
        "Cookie": KEY,
        "X-Api-Key": KEY,
        "Origin": "https://app.example",
        "OpenAI-Beta": "realtime=v1",
        "OpenAI-Safety-Identifier": "u1",
    }
    offers = ["realtime", f"openai-insecure-api-key.{KEY}", "openai-beta.realtime-v1", "odd"]
    ws = await connect(weir, f"model=m&intent=transcription&api_key={KEY}", headers=headers, protocols=offers)
    assert ws.protocol == "realtime"
    assert ws._response.headers["x-weir-upstream"] == "a"
    await ws.close()
    await weir.record()
    asked = upstream.handshakes[0]
    assert KEY not in str(asked.headers) + str(asked.rel_url)
    assert KEY not in caplog.text
    assert asked.path_qs == "/v1/realtime?model=theirs&intent=transcription"
    assert asked.headers["Authorization"] == f"Bearer {OURS}"
    assert (asked.headers["X-Added"], asked.headers["OpenAI-Beta"]) == ("yes", "realtime=v1")
    assert asked.headers["traceparent"].split("-")[1] == (await weir.record()).trace_id
    assert asked.headers["Sec-WebSocket-Protocol"] == "realtime,openai-beta.realtime-v1"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert not {"Cookie", "Origin", "Sec-WebSocket-Extensions", "X-Api-Key", "api-key"} & set(asked.headers)


async def test_subprotocols(speaks: Any, gate: Any, connect: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The upstream's choice is ours; when it makes none, a client that offered `realtime` gets that; one that offered nothing, nothing."""
    caplog.set_level(logging.ERROR, "aiohttp.websocket")  # the upstream of this test is talkative, the gateway must not be
    weir = await gate(await speaks())
    for offers, answer in ((["openai-beta.realtime-v1", "realtime"], "realtime"), ([f"openai-insecure-api-key.{KEY}"], None), ([], None)):
        ws = await connect(weir, protocols=offers)
        assert ws.protocol == answer
        assert ("Sec-WebSocket-Protocol" in ws._response.headers) == (answer is not None)
        await ws.close()
    await weir.record(3)


REFUSALS = {
    401: (b'{"error":{"message":"Incorrect API key provided"}}', 401, True),
    404: (b'{"error":{"message":"no such model"}}', 404, False),
    503: (b"busy", 503, True),
    200: (b"hello", 502, True),
    302: (b"", 502, True),
}


@pytest.mark.parametrize("status", REFUSALS)
async def test_an_upstream_that_refuses(speaks: Any, gate: Any, connect: Any, status: int) -> None:
    """Its status, and its own words where they are an error, are the client's answer instead of an upgrade; redirects are not followed."""
    body, told, fault = REFUSALS[status]
    upstream = await speaks(status=status, body=body, headers={"X-Request-Id": "r1", "Location": "/v1/elsewhere"})
    weir = await gate(upstream)
    client = await weir.client()
    client.ask(f"GET {PATH}?model=m HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    await client.gone()
    assert (client.status, client.headers["connection"], "location" in client.headers) == (told, "close", False)
    assert client.body == body if status >= 400 else client.document["error"]["code"] == str(status)
    record = await weir.record()
    assert (record.outcome, record.error, record.status) == ("upstream_error", str(status), told)
    assert (record.attempts[0].outcome, record.attempts[0].status, len(upstream.handshakes)) == ("status", status, 1)
    assert weir.targets()[0].last_error == (str(status) if fault else None)


async def test_a_refusal_in_an_encoding_of_its_own(speaks: Any, gate: Any) -> None:
    """An answer that was compressed though nobody asked for that goes through as it came, and still says how."""
    body = gzip.compress(b'{"error":{}}')
    weir = await gate(await speaks(status=400, body=body, headers={"Content-Encoding": "gzip"}))
    client = await weir.client()
    client.ask(f"GET {PATH}?model=m HTTP/1.1\r\n{HANDSHAKE}\r\n".encode())
    await client.gone()
    assert (client.status, client.headers["content-encoding"], client.body) == (400, "gzip", body)


async def test_other_targets_are_asked(speaks: Any, gate: Any, connect: Any) -> None:
    """A port nobody listens on, then one that is busy, then one that agrees: the client sees the third only."""
    busy, good = await speaks(status=503), await speaks(echo)
    weir = await gate("http://127.0.0.1:9/v1", busy, good)
    ws = await connect(weir)
    await ws.send_str("hello")
    assert (await ws.receive()).data == "hello"
    await ws.close()
    record = await weir.record()
    assert [(a.upstream, a.why, a.outcome, a.error) for a in record.attempts] == [
        ("a", "first", "connect_error", "connect_refused"),
        ("b", "fallback", "status", "503"),
        ("c", "fallback", "won", None),
    ]
    assert (record.upstream, record.fallback_reason, record.outcome) == ("c", "connect_refused", "completed")
    assert {target.upstream: target.last_error for target in weir.targets()} == {"a": "connect_refused", "b": "503", "c": None}


async def test_one_target_when_asked_so(gate: Any, speaks: Any, connect: Any) -> None:
    """`x-weir-no-fallback` and a route that does not retry on refused connections keep to the first."""
    good = await speaks(echo)
    weir = await gate("http://127.0.0.1:9/v1", good)
    assert await refused(connect, weir, headers={"x-weir-no-fallback": "true"}) == 502
    weir = await gate("http://127.0.0.1:9/v1", good, retry={"on": ["status_5xx"]})
    assert await refused(connect, weir) == 502
    record = await weir.record()
    assert (record.outcome, record.error, record.fallback_reason, len(record.attempts)) == ("upstream_error", "connect_refused", None, 1)


async def test_a_handshake_that_is_never_answered(gate: Any, connect: Any, mute: Mute) -> None:
    """An upstream that takes the connection and says nothing is left after its connect_timeout."""
    weir = await gate(mute, upstreams={"a": {"connect_timeout": "200ms"}})
    started = time.monotonic()
    assert await refused(connect, weir) == 502
    assert time.monotonic() - started < 5.0
    assert (await weir.record()).error == "connect_timeout"


async def test_a_full_upstream(speaks: Any, gate: Any, connect: Any) -> None:
    """A session more than `max_streams` is refused after a moment, and that is no fault of the upstream's."""
    weir = await gate(await speaks(), upstreams={"a": {"max_streams": 1, "connect_timeout": "200ms"}})
    ws = await connect(weir)
    assert await refused(connect, weir) == 503
    assert (await weir.record()).error == "no_slot"
    assert weir.targets()[0].last_error is None
    await ws.close()
    await weir.record(2)
    ws = await connect(weir)
    await ws.close()
    await weir.record(3)


BAD = {
    "a plain GET": ("", "model=m", 426, "upgrade_required"),
    "an old version": (HANDSHAKE.replace("13", "8"), "model=m", 426, "upgrade_required"),
    "no key": (HANDSHAKE.split("Sec-WebSocket-Key", maxsplit=1)[0], "model=m", 400, "bad_handshake"),
    "no model": (HANDSHAKE, "", 400, "invalid_model"),
    "an unknown model": (HANDSHAKE, "model=unheard-of", 404, "model_not_found"),
    "no target that speaks": (HANDSHAKE, "model=mute", 400, "untranslatable"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_cannot_be_served_is_said_before_an_upgrade(speaks: Any, gate: Any, case: str) -> None:
    """An error body with its status, the connection closed behind it, and no upstream asked."""
    head, query, status, code = BAD[case]
    upstream = await speaks()
    match = {"models": ["mute" if case == "no target that speaks" else "m"]}
    weir = await gate(upstream, match=match, upstreams={"a": {"dialect": "anthropic" if "mute" in query else "openai"}})
    client = await weir.client()
    client.ask(f"GET {PATH}?{query} HTTP/1.1\r\n{head or 'Host: w' + chr(13) + chr(10)}\r\n".encode())
    await client.gone()
    assert (client.status, client.document["error"]["code"], upstream.handshakes) == (status, code, [])
    if status == 426:
        assert (client.headers["upgrade"], client.headers["sec-websocket-version"]) == ("websocket", "13")
    assert (await weir.record()).outcome == "rejected"


async def test_an_upgrade_elsewhere(speaks: Any, gate: Any) -> None:
    """A WebSocket on any other path is answered with an error, not with silence."""
    weir = await gate(await speaks())
    for path in ("/nowhere", "/v1/chat/completions", "/v1/realtime/more"):
        client = await weir.client()
        await client.ask(f"GET {path} HTTP/1.1\r\n{HANDSHAKE}\r\n".encode()).finish()
        assert (client.status, "message" in str(client.document)) == (501, True)


@judged_in_rounds
async def test_a_slow_client_slows_its_upstream(speaks: Any, gate: Any, raw: Any, until: Any) -> None:
    """A client that reads nothing leaves its upstream waiting after a few megabytes, which is all that is kept for it; then it goes on."""
    piece, pieces = b"x" * 65536, 800  # 50 MB
    sent = 0

    async def flood(ws: web.WebSocketResponse) -> None:
        nonlocal sent
        for _ in range(pieces):
            await ws.send_bytes(piece)
            sent += 1
        await ws.close()

    weir = await gate(await speaks(flood))
    client = await raw(weir, buffer=4096)
    client.transport.pause_reading()
    await asyncio.sleep(0.6)
    stuck = sent
    await asyncio.sleep(0.3)
    assert (sent, stuck < pieces / 2) == (stuck, True)
    live = next(iter(weir.plane.live.values()))
    assert live.ledger.owner == "client_blocked"
    assert live.reply.transport.get_write_buffer_size() < 2**20
    client.transport.resume_reading()
    await until(lambda: sent > stuck + 10, "it goes on")
    client.transport.abort()
    await weir.record()


@judged_in_rounds
async def test_a_slow_upstream_slows_its_client(speaks: Any, gate: Any, connect: Any, until: Any) -> None:
    """The other way round."""
    go = asyncio.Event()

    async def wait(ws: web.WebSocketResponse) -> None:
        await go.wait()

    upstream = await speaks(wait)
    weir = await gate(upstream)
    ws = await connect(weir)
    sent = 0

    async def flood() -> None:
        nonlocal sent
        for _ in range(800):
            await ws.send_bytes(b"y" * 65536)
            sent += 1

    flooding = asyncio.get_running_loop().create_task(flood())
    await asyncio.sleep(0.6)
    stuck = sent
    await asyncio.sleep(0.3)
    assert (sent, stuck < 400) == (stuck, True)
    go.set()
    await flooding
    await ws.close()
    await until(lambda: len(upstream.got) == 800)
    assert (await weir.record()).outcome == "completed"


async def test_a_client_that_takes_nothing_is_left(speaks: Any, gate: Any, raw: Any, until: Any) -> None:
    """After `client.write_timeout` the session ends as client_stalled, and its upstream is closed."""

    async def flood(ws: web.WebSocketResponse) -> None:
        for _ in range(800):
            await ws.send_bytes(b"x" * 65536)

    upstream = await speaks(flood)
    weir = await gate(upstream, client={"write_timeout": "500ms"})
    client = await raw(weir, buffer=4096)
    client.transport.pause_reading()
    record = await weir.record()
    assert (record.outcome, record.error) == ("client_stalled", "write_timeout")
    await until(lambda: upstream.ended_at)


@pytest.mark.parametrize("who", ["client", "upstream"])
async def test_a_message_too_large(speaks: Any, gate: Any, connect: Any, until: Any, who: str) -> None:
    """A message above `server.max_body` ends the session: its sender hears 1009, the other side that it is not its doing."""

    async def large(ws: web.WebSocketResponse) -> None:
        if who == "upstream":
            await ws.send_bytes(b"x" * 20_000)

    upstream = await speaks(large)
    weir = await gate(upstream, server={"max_body": 10_000})
    ws = await connect(weir)
    if who == "client":
        await ws.send_bytes(b"x" * 20_000)
    message = await ws.receive()
    await ws.close()
    await until(lambda: upstream.closes)
    assert (message.data, upstream.closes[0][0]) == ((1009, 1001) if who == "client" else (1014, 1009))
    record = await weir.record()
    assert (record.outcome, record.error) == ("client_disconnect" if who == "client" else "upstream_error", "message_too_big")


@judged_in_rounds
async def test_a_drain_ends_sessions(speaks: Any, gate: Any, connect: Any) -> None:
    """At the deadline both sides hear 1001 and why; a new session meanwhile is refused."""
    upstream = await speaks()
    weir = await gate(upstream)
    ws = await connect(weir)
    draining = asyncio.get_running_loop().create_task(weir.worker.drain(0.3))
    await asyncio.sleep(0)
    assert await refused(connect, weir) == 503
    message = await ws.receive()
    assert (message.data, message.extra) == (1001, "the gateway is shutting down")
    await ws.close()
    await draining
    record = await weir.record(2)
    assert (record.outcome, record.error) == ("shutdown", "server_shutdown")
    assert upstream.closes == [(1001, "the gateway is shutting down")]
    assert weir.targets()[0].last_error is None


async def test_a_drain_while_dialing(gate: Any, connect: Any, mute: Mute) -> None:
    """A client that was not accepted yet hears 503."""
    weir = await gate(mute)
    asking = asyncio.get_running_loop().create_task(refused(connect, weir))
    await asyncio.sleep(0.2)
    await weir.worker.drain(0.0)
    assert await asking == 503
    assert (await weir.record()).outcome == "shutdown"


SOUND = "A" * 6400  # 4800 bytes: a tenth of a second


@judged_in_rounds
async def test_a_spoken_answer_is_measured(speaks: Any, gate: Any, connect: Any) -> None:
    """First token and first sound from the moment the answer was asked for; silence after all was played is an underrun; usage adds up."""
    delta = {"type": "response.output_audio.delta", "event_id": "e", "response_id": "r", "delta": SOUND}
    usage = {"input_tokens": 100, "output_tokens": 50, "input_token_details": {"cached_tokens": 64, "audio_tokens": 30}}
    session = {"id": "sess_1", "model": "gpt-realtime-1"}
    upstream = await speaks(
        script(
            {"type": "session.created", "session": session},
            0.15,
            {"type": "response.created", "response": {"id": "r"}},
            0.1,
            {"type": "response.output_audio_transcript.delta", "delta": "Hi"},
            0.1,
            delta,
            delta,
            0.5,
            delta,
            {"type": "response.done", "response": {"status": "completed", "usage": usage}},
        )
    )
    weir = await gate(upstream)
    ws = await connect(weir)
    await ws.receive()
    await ws.send_str(orjson.dumps({"type": "input_audio_buffer.append", "audio": SOUND}).decode())
    await ws.send_str('{"type": "response.create"}')
    while "response.done" not in (await ws.receive()).data:
        pass
    await ws.close()
    record = await weir.record()
    voice = voice_of(record)
    assert (record.response_id, record.served_model, record.finish) == ("sess_1", "gpt-realtime-1", ["completed"])
    assert 0.15 < voice.first_token.first < 0.4
    assert 0.08 < voice.first_audio.first - voice.first_token.first < 0.25
    assert (voice.responses, voice.underruns) == (1, 1)
    assert 0.2 < voice.underrun_time < 0.5
    assert (round(voice.audio_in, 3), round(voice.audio_out, 3)) == (0.1, 0.3)
    assert record.usage is not None
    assert (record.usage.input, record.usage.output, record.usage.cached, voice.audio_input) == (100, 50, 64, 30)
    assert (record.cadence.chunks, record.outcome, record.parser_errors) == (4, "completed", {})
    assert record.seconds["upstream_wait"] > 0.4


@pytest.mark.parametrize("part", ["came", "sent", "report"])
async def test_a_broken_observer_breaks_no_session(
    speaks: Any, gate: Any, connect: Any, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    """It goes blind, and that is counted."""

    def broken(*_: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(VoiceObserver, part, broken)
    weir = await gate(await speaks(echo))
    ws = await connect(weir)
    for text in "ab":
        await ws.send_str(text)
        assert (await ws.receive()).data == text
    await ws.close()
    record = await weir.record()
    assert (record.outcome, record.parser_errors["observer"], record.bytes) == ("completed", 1, 2)


async def test_an_upstream_that_falls_silent_in_an_answer(speaks: Any, gate: Any, connect: Any) -> None:
    """After `stall.liveness` without a word the session ends; between answers silence is nobody's fault."""
    weir = await gate(await speaks(script({"type": "response.created"})), stall={"threshold": "100ms", "liveness": "500ms"})
    ws = await connect(weir)
    await ws.receive()
    message = await ws.receive()
    assert message.data == 1014
    await ws.close()
    record = await weir.record()
    assert (record.outcome, record.error, record.attempts[0].outcome) == ("upstream_stalled", "upstream_silent", "stalled")
