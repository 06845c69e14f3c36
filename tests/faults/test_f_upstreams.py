"""Upstreams that lead elsewhere, answer twice, or speak no sound HTTP: nothing of it is followed, passed on, or kept for the next call."""

import re
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import HEALTHY, InOrder, Script, Status
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Hang, Pause, Send, chunk

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
WHOLE = msgspec.structs.replace(HELLO, stream=False)
ONCE = {"attempts": 1}
REFUSED = "a redirect is not followed"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_redirect_is_not_followed(provide: Any, gate: Any, make: Any, dialect: str, status: int) -> None:
    """It is an error of the upstream, streamed or not: 502, no Location, and where it points nobody knocks (F2)."""
    trap = await provide()
    away = {"Location": f"http://{trap.host}:{trap.port}/latest/meta-data/", "Refresh": f"0; url=http://{trap.host}:{trap.port}/"}
    provider = await provide(Status(status, body='{"secret": "of another place"}', headers=away))
    weir = await gate(provider, dialects=[dialect])
    for number, prompt in enumerate((HELLO, WHOLE), 1):
        client = await (await weir.client()).ask(make.call(dialect, prompt)[1]).finish()
        assert (client.status, DIALECTS[dialect].read_error(502, client.body).message) == (502, f"upstream a answered {status}: {REFUSED}")
        assert not {"location", "refresh"} & set(client.headers)
        assert b"another place" not in client.raw
        assert str(trap.port).encode() not in client.raw
        record = await weir.record(number)
        assert (record.outcome, record.error) == ("upstream_error", "redirect_refused")
        [attempt] = record.attempts
        assert (attempt.outcome, attempt.status, attempt.error) == ("status", status, "redirect_refused")
    assert (trap.total, trap.connections, provider.total) == (0, 0, 2)
    assert weir.targets()[0].last_error == "redirect_refused"


@pytest.mark.parametrize("mine", DIALECTS)
async def test_another_target_answers_for_one_that_redirects(provide: Any, gate: Any, make: Any, mine: str) -> None:
    """The next target is asked, of the same dialect or another, and the client sees its answer alone (F2)."""
    for theirs in ("openai", "anthropic"):
        sends_away = await provide(Status(307, headers={"Location": "http://169.254.169.254/latest/meta-data/"}))
        weir = await gate(sends_away, await provide(), dialects=[theirs, theirs])
        client = await (await weir.client()).ask(make.call(mine, HELLO)[1]).finish()
        record = await weir.record()
        assert (client.status, record.outcome, record.upstream) == (200, "completed", "b")
        assert [attempt.outcome for attempt in record.attempts] == ["status", "won"]
        assert b"169.254" not in client.raw


SURPLUS = {
    "a whole answer": lambda raw: raw,
    "the beginning of one": lambda raw: raw[:9],
    "half a head": lambda raw: raw.partition(b"\r\n\r\n")[0],
    "rubbish": lambda raw: b"\x00\xff rubbish" + raw[:0],
}


@pytest.mark.parametrize("case", SURPLUS)
@pytest.mark.parametrize("dialect", DIALECTS)
async def test_what_follows_an_answer_is_nobodys(provide: Any, gate: Any, direct: Any, make: Any, dialect: str, case: str) -> None:
    """Two answers in one read are one answer: the other is dropped, its connection too, and the next call gets its own (F6)."""
    for prompt in (HELLO, WHOLE):
        call, request = make.call(dialect, prompt)
        whole = await direct(await provide(), request=request)
        surplus = SURPLUS[case](whole.raw)
        provider = await provide(InOrder([Script((Send(whole.raw + surplus), Hang()))]))
        weir = await gate(provider, dialects=[dialect], usage="leave")
        client = await weir.client()
        first = await client.ask(request).finish()
        assert (first.status, first.body == whole.body) == (200, True)
        second = await client.ask(request).finish()
        assert (second.status, second.complete) == (200, True)
        assert [record.outcome for record in weir.book.records] == ["completed", "completed"]
        assert make.heard(call, second.body) != []
        assert [len(record.attempts) for record in weir.book.records] == [1, 1]
        assert provider._accepted == 2  # nobody was sent back to the connection that had said too much


CHUNKED = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
UNSOUND = {
    "both lengths": PLAIN + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "two lengths": PLAIN + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{} ",
    "a length with a sign": PLAIN + b"Content-Length: +2\r\n\r\n{}",
    "gzip, chunked": PLAIN + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "a bad chunk": CHUNKED + b"\r\nzz\r\n{}\r\n0\r\n\r\n",
    "a chunk below zero": CHUNKED + b"\r\n-2\r\n{}\r\n0\r\n\r\n",
    "a chunk beyond all": CHUNKED + b"\r\nffffffffffffffffff\r\n{}\r\n",
    "a chunk longer than it says": CHUNKED + b"\r\n2\r\n{}{}\r\n0\r\n\r\n",
    "a switch of protocols": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x05hello",
    "a NUL in a header": PLAIN + b"X-Request-Id: a\x00b\r\nContent-Length: 2\r\n\r\n{}",
    "a CR in a header": PLAIN + b"X-Request-Id: a\rSet-Cookie: b\r\nContent-Length: 2\r\n\r\n{}",
    "a space before the colon": PLAIN + b"Content-Length : 2\r\n\r\n{}",
    "a head without end": PLAIN + b"X-A: b\r\n" * 20_000,
    "no HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "HTTP/2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + bytes(18),
}


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_an_answer_that_is_no_sound_http(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """It is the upstream's error, never a whole answer of ours, framed once; its connection is not used again (F6)."""
    for case, answer in UNSOUND.items():
        for prompt in (HELLO, WHOLE):
            provider = await provide(InOrder([Script((Send(answer), Hang()))]))
            weir = await gate(provider, dialects=[dialect], retry=ONCE, breaker={"failures": 100})
            client = await (await weir.client()).ask(make.call(dialect, prompt)[1]).finish()
            assert (client.status, client.complete) in {(502, True), (200, False)}, case  # what was committed is broken off for all to see
            assert ("content-length" in client.headers) != ("transfer-encoding" in client.headers)
            assert not {"set-cookie", "upgrade"} & set(client.headers)
            assert (await weir.record()).outcome in {"upstream_truncated", "upstream_error"}
            assert (await (await weir.client()).ask(make.call(dialect, prompt)[1]).finish()).status == 200
            assert provider._accepted == 2


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_chunks_that_break_behind_a_token(provide: Any, gate: Any, direct: Any, make: Any, dialect: str) -> None:
    """A stream whose framing breaks in its middle ends as an error, never as if it were whole (A1b F6)."""
    call, request = make.call(dialect, HELLO)
    whole = await direct(await provide(), request=request)
    half = [body for _, body in whole.pieces][: len(whole.pieces) // 2]
    begun = whole.raw.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" + b"".join(map(chunk, half))
    weir = await gate(await provide(Script((Send(begun), Pause(0.01), Send(b"zz\r\nevil\r\n"), Fin()))), dialects=[dialect], retry=ONCE)
    client = await (await weir.client()).ask(request).finish()
    record = await weir.record()
    assert (client.status, record.outcome, record.error) == (200, "upstream_truncated", "bad_response")
    assert client.body.startswith(b"".join(half))
    assert b"evil" not in client.raw
    assert client.ended or not client.complete or make.heard(call, client.body[len(b"".join(half)) :]) != []


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_headers_of_one_hop_stay_on_it(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """What belongs to a connection, and what a Connection header names, crosses in neither direction (F1)."""
    hop = {"Keep-Alive": "timeout=5", "Proxy-Authenticate": "Basic", "Trailer": "X-A", "Upgrade": "h2c", "TE": "trailers"}
    named = {"Connection": "close, X-Request-Id, Anthropic-Version, OpenAI-Beta", "X-Request-Id": "canary", "OpenAI-Beta": "canary"}
    _, request = make.call(dialect, HELLO, {**hop, **named, "Proxy-Connection": "keep-alive"})
    provider = await provide()
    weir = await gate(provider, dialects=[dialect])
    client = await (await weir.client()).ask(request).finish()
    assert client.status == 200
    seen = provider.requests[0].headers
    assert not {"keep-alive", "proxy-authenticate", "trailer", "upgrade", "te", "connection", "proxy-connection"} & set(seen)
    assert "canary" not in repr(seen)
    answer = head(404, {"Content-Type": "application/json", **named, "X-RateLimit-Remaining": "3", "Via": "1.1 x"}, 2) + b"{}"
    other = await gate(await provide(Script((Send(answer), Fin()))), dialects=[dialect])
    client = await (await other.client()).ask(make.call(dialect, HELLO)[1]).finish()
    assert (client.status, client.headers["x-ratelimit-remaining"]) == (404, "3")
    assert b"canary" not in client.raw
    assert not {"via", "connection"} & set(client.headers)


CHOICES = ("base_url", "api_base", "endpoint", "url", "upstream", "target", "provider", "host", "proxy")


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_no_word_of_a_client_chooses_an_upstream(provide: Any, gate: Any, make: Any, dialect: str) -> None:
    """Request line, headers, query, body, model: whatever they name, the configured upstream is asked, by its own name (F2)."""
    trap, provider = await provide(), await provide()
    where = f"http://{trap.host}:{trap.port}"
    weir = await gate(provider, dialects=[dialect])
    said = {f"x-weir-{name}": where for name in CHOICES} | {
        "X-Forwarded-Host": where,
        "Forwarded": f"host={where}",
        "X-Original-URL": where,
    }
    _, request = make.call(dialect, HELLO, said)
    opening, _, body = request.partition(b"\r\n\r\n")
    body = orjson.dumps(orjson.loads(body) | dict.fromkeys(CHOICES, where))
    line, _, rest = opening.partition(b"\r\n")
    path = line.split(b" ")[1]
    query = (b"&" if b"?" in path else b"?") + b"&".join(b"%b=%b" % (name.encode(), where.encode()) for name in CHOICES)
    rest = re.sub(rb"Content-Length: \d+", b"Content-Length: %d" % len(body), rest)
    for target, host in ((path + query, b"Host: weir"), (where.encode() + path, b"Host: " + where.encode()[7:])):
        client = await weir.client()
        client.ask(b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (target, rest.replace(b"Host: weir", host), body))
        await client.finish()
        assert client.status in {200, 400}
    assert provider.total > 0
    for seen in provider.requests:
        assert seen.headers["host"] == f"{provider.host}:{provider.port}"
        assert seen.path == provider.requests[0].path
        assert str(trap.port) not in repr(seen.headers)
    assert (trap.total, trap.connections) == (0, 0)


@pytest.mark.parametrize(
    "model", ["../../../latest/meta-data", "m/../../admin", "http://169.254.169.254/latest", "m@169.254.169.254", "//x/y"]
)
@pytest.mark.parametrize("dialect", ["gemini", "bedrock", "azure", "openai"])
async def test_a_models_name_leads_nowhere_else(provide: Any, gate: Any, make: Any, dialect: str, model: str) -> None:
    """Where a model stands in the path of an upstream, its name is one segment of it or the call is refused (F2)."""
    provider = await provide(HEALTHY)
    weir = await gate(provider, dialects=[dialect], usage="leave")
    client = await (await weir.client()).ask(make.request(model=model)).finish()
    assert client.status in {200, 400}
    for seen in provider.requests:
        path = seen.path.partition("?")[0]
        assert ".." not in path.split("/")
        assert "//" not in path
        assert seen.headers["host"] == f"{provider.host}:{provider.port}"
