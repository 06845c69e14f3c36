"""What crosses the gateway in headers, each way: credentials never, identities of streams always, and nothing unbounded."""

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.headers import MAX_TAGS, TraceContext, retry_after, trace_context
from gateway.sim.faults import Script, Status
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Send
from gateway.sim.tempers import Temper

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
CANARIES = {
    "Authorization": "Bearer canary-1",
    "x-api-key": "canary-2",
    "api-key": "canary-3",
    "x-goog-api-key": "canary-4",
    "Cookie": "session=canary-5",
    "Proxy-Authorization": "Basic canary-6",
    "X-Forwarded-For": "canary-7",
    "X-Amz-Security-Token": "canary-8",
    "x-sim-unheard-of": "canary-9",
    "TE": "trailers",
    "Upgrade-Insecure-Requests": "1",
}


async def test_no_credential_of_the_client_reaches_an_upstream(provide: Any, gate: Any) -> None:
    """Whatever a client authenticates with stays here, on good paths and bad; the upstream sees its own key and nothing hop by hop (F1)."""
    provider, spare = await provide(Status(503)), await provide()
    weir = await gate(provider, spare, upstreams={"a": {"api_key": "key-a"}, "b": {"api_key": "key-b", "headers": {"x-added": "yes"}}})
    client = await weir.fetch(CANARIES)
    for each in (provider, spare):
        assert "canary" not in repr(each.requests[0])
        assert set(each.requests[0].headers) <= {"host", "authorization", "x-added", "accept-encoding", "content-length"}
    assert (provider.requests[0].headers["authorization"], spare.requests[0].headers["authorization"]) == ("Bearer key-a", "Bearer key-b")
    assert spare.requests[0].headers["x-added"] == "yes"
    assert b"canary" not in client.raw
    assert b"key-" not in client.raw
    assert not re.search("canary|key-[ab]", repr(weir.book.messages))


async def test_without_a_key_there_is_no_credential(provide: Any, gate: Any) -> None:
    """An upstream without a configured key gets none, least of all the client's."""
    provider = await provide()
    await (await gate(provider)).fetch(CANARIES)
    assert "authorization" not in provider.requests[0].headers


async def test_what_an_upstream_may_see(provide: Any, gate: Any) -> None:
    """Content type, SDK, request id and the provider's own headers pass, whatever their case."""
    passed = {
        "Content-Type": "application/json",
        "USER-AGENT": "sdk/1",
        "Idempotency-Key": "i",
        "X-Request-Id": "r",
        "OpenAI-Beta": "b",
        "X-Stainless-Lang": "py",
        "HTTP-Referer": "h",
    }
    provider = await provide()
    await (await gate(provider)).fetch(passed)
    seen = provider.requests[0].headers
    assert {name: seen.get(name.lower()) for name in passed} == passed


async def test_a_configured_header_replaces_the_clients(gate: Any, world: list[Any]) -> None:
    """What routes.yaml adds is said once, in its words: two lines of one name mean whatever the reader likes."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(head(200, {"Content-Type": "application/json", "Connection": "close"}, 2) + b"{}")
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        weir = await gate(url, upstreams={"a": {"headers": {"User-Agent": "ours", "X-Title": "weir"}}})
        await weir.fetch({"user-agent": "theirs", "X-TITLE": "app", "X-Request-Id": "r"}, stream=False)
    lines = asked[0].lower().split(b"\r\n")
    assert [line for line in lines if line.startswith((b"user-agent", b"x-title", b"x-request-id"))] == [
        *(b"x-request-id: r", b"user-agent: ours", b"x-title: weir")
    ]


async def test_a_header_of_any_bytes_passes_as_it_is(provide: Any, gate: Any, make: Any) -> None:
    """A client's odd bytes are its own: passed on unchanged, and never held against the target."""
    provider = await provide()
    weir = await gate(provider)
    content = make.request().partition(b"\r\n\r\n")[2]
    for odd in ("snow ☃".encode(), b"latin \xe9"):
        opening = b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\nUser-Agent: %b\r\nContent-Length: %d\r\n\r\n" % (odd, len(content))
        client = await (await weir.client()).ask(opening + content).finish()
        assert client.status == 200
        assert provider.requests[-1].headers["user-agent"].encode("latin-1") == odd
    assert weir.targets()[0].last_error is None


async def test_what_a_client_may_see(provide: Any, gate: Any) -> None:
    """Rate limits, request ids and retry-after come back; cookies, servers and hop-by-hop headers do not."""
    back = {"x-request-id": "r", "openai-processing-ms": "7", "x-ratelimit-remaining": "3", "retry-after": "30"}
    kept = {"Set-Cookie": "a=b", "X-Internal": "host-17", "Keep-Alive": "timeout=5", "Via": "1.1 x", "Location": "http://169.254.169.254/"}
    provider = await provide(Status(404, body="{}", headers={**back, **kept}))
    weir = await gate(provider)
    client = await weir.fetch()
    assert {name: client.headers.get(name) for name in back} == back
    assert not {name.lower() for name in kept} & set(client.headers)
    assert client.headers["server"] == "weir"
    assert client.status == 404


async def test_a_stream_says_who_it_is(provide: Any, gate: Any) -> None:
    """Ids, route, upstream and attempts on every answer; times at the commit; and every hop is told to pass events on at once (A8a D12)."""
    weir = await gate(await provide(temper=Temper(ttft="50ms", gap=0, tokens=2)))
    client = await weir.fetch()
    record = await weir.record()
    told = {name: client.headers[name] for name in ("x-weir-stream-id", "x-weir-route", "x-weir-upstream", "x-weir-attempts")}
    assert told == {"x-weir-stream-id": record.stream_id, "x-weir-route": "chat", "x-weir-upstream": "a", "x-weir-attempts": "1"}
    assert client.headers["traceresponse"] == f"00-{record.trace_id}-{record.span_id}-01"
    assert (client.headers["cache-control"], client.headers["x-accel-buffering"]) == ("no-cache, no-transform", "no")
    assert ("content-length" in client.headers, "content-encoding" in client.headers) == (False, False)
    timing = dict(part.split(";dur=") for part in client.headers["server-timing"].split(", "))
    assert 0 <= float(timing["queue"]) < float(timing["ttfb"])
    assert len(client.names) == len(set(client.names))


async def test_time_to_first_token_at_the_commit(provide: Any, gate: Any) -> None:
    """When the first token was waited for, its time is in the headers."""
    weir = await gate(await provide(temper=Temper(ttft="100ms", gap=0, tokens=2)), await provide())
    timing = dict(part.split(";dur=") for part in (await weir.fetch()).headers["server-timing"].split(", "))
    assert float(timing["ttft"]) >= 99


async def test_a_caller_in_a_trace(provide: Any, gate: Any) -> None:
    """The caller's trace goes on: its ids in the record, and, where the upstream takes it, our span as the parent there (D3b)."""
    provider = await provide()
    weir = await gate(provider, upstreams={"a": {"trace": True}})
    client = await weir.fetch({"traceparent": f"00-{TRACE}-{PARENT}-00", "tracestate": "a=b,c=d"})
    record = await weir.record()
    assert (record.trace_id, record.parent_id, record.sampled, record.tracestate) == (TRACE, PARENT, False, "a=b,c=d")
    assert record.span_id not in {PARENT, "0" * 16}
    assert provider.requests[0].headers["traceparent"] == f"00-{TRACE}-{record.span_id}-00"
    assert provider.requests[0].headers["tracestate"] == "a=b,c=d"
    assert client.headers["traceresponse"] == f"00-{TRACE}-{record.span_id}-00"


async def test_traces_stay_here_unless_asked_for(provide: Any, gate: Any) -> None:
    """`trace: false`, the default, tells an upstream nothing of traces."""
    provider = await provide()
    await (await gate(provider)).fetch({"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "a=b", "baggage": "user=1"})
    assert not {"traceparent", "tracestate", "baggage"} & set(provider.requests[0].headers)


@pytest.mark.parametrize(
    "odd",
    [
        "",
        "nonsense",
        f"00-{TRACE}-{PARENT}",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE[:-1]}٣-{PARENT}-01",
    ],
)
async def test_a_malformed_traceparent_is_none(provide: Any, gate: Any, odd: str) -> None:
    """A new trace begins, whatever the header holds (D3b)."""
    weir = await gate(await provide())
    assert (await weir.fetch({"traceparent": odd})).status == 200
    record = await weir.record()
    assert (record.parent_id, record.sampled, record.tracestate) == (None, True, None)
    assert re.fullmatch("[0-9a-f]{32}", record.trace_id)
    assert record.trace_id != TRACE


def test_a_future_version_is_read_as_far_as_it_is_known() -> None:
    """Version 01 may say more; the first four fields are what they were (W3C Trace Context, 4.3)."""
    assert trace_context({"traceparent": f"01-{TRACE}-{PARENT}-03-x"}) == TraceContext(TRACE, PARENT, True, None)


@given(st.text())
def test_any_header_may_be_read(value: str) -> None:
    """No value of a header makes its reading fail, and a wait is a number of seconds or nothing."""
    trace_context({"traceparent": value, "tracestate": value})
    wait = retry_after({"retry-after": value})
    assert wait is None or 0 <= wait < float("inf")


async def test_tags_names_and_sessions(provide: Any, gate: Any) -> None:
    """What callers say about their calls is kept with the stream, and never sent on."""
    said = {"X-Weir-Tag-Team": "blue", "x-weir-tag-env": "prod", "x-weir-prompt-name": "greet", "x-weir-prompt-version": "3"}
    provider = await provide()
    weir = await gate(provider)
    await weir.fetch({**said, "x-weir-session-id": "s1", "x-stainless-retry-count": "2"})
    record = await weir.record()
    assert record.tags == {"team": "blue", "env": "prod"}
    assert (record.prompt_name, record.prompt_version, record.session_id, record.client_retry) == ("greet", "3", "s1", 2)
    assert [name for name in provider.requests[0].headers if "weir" in name] == []


async def test_what_callers_say_is_bounded(provide: Any, gate: Any) -> None:
    """Sixteen tags of 128 characters, name and value; the rest is cut, the call goes through."""
    weir = await gate(await provide())
    many = {f"x-weir-tag-{n:02d}{'n' * 1000}": "v" * 1000 for n in range(20)}
    more = {
        "x-weir-prompt-name": "p" * 4000,
        "x-weir-session-id": "s" * 4000,
        "x-stainless-retry-count": "9" * 50,
        "tracestate": "t" * 4000,
    }
    assert (await weir.fetch({**many, **more, "traceparent": f"00-{TRACE}-{PARENT}-01"})).status == 200
    record = await weir.record()
    assert len(record.tags) == MAX_TAGS
    assert all(len(name) <= 128 and len(value) <= 128 for name, value in record.tags.items())
    assert (len(record.prompt_name), len(record.session_id), record.client_retry) == (128, 128, None)
    assert len(record.tracestate or "") <= 512


@pytest.mark.parametrize("name", ["x-weir-tag-a", "x-weir-session-id", "x-weir-prompt-name", "x-weir-prompt-version", "tracestate"])
async def test_what_callers_say_can_always_be_told(provide: Any, gate: Any, make: Any, name: str) -> None:
    """Bytes that are no text cannot keep a stream from being recorded: every message about it can be encoded."""
    weir = await gate(await provide())
    content = make.request().partition(b"\r\n\r\n")[2]
    lines = b"traceparent: 00-%b-%b-01\r\n%b: a\xff\xfeb" % (TRACE.encode(), PARENT.encode(), name.encode())
    opening = b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\n%b\r\nContent-Length: %d\r\n\r\n" % (lines, len(content))
    assert (await (await weir.client()).ask(opening + content).finish()).status == 200
    assert (await weir.record()).outcome == "completed"


@pytest.mark.parametrize("bad", [b"x-request-id: a\rb", b"x-request-id: a\x00b", b"x-request-id: a\nset-cookie: b"])
async def test_an_upstream_cannot_write_headers_of_its_own(provide: Any, gate: Any, bad: bytes) -> None:
    """Control characters in an upstream's header make no header and no event at the client (F6)."""
    body = b'{"ok":true}'
    answer = head(200, {"Content-Type": "application/json"}, len(body)).replace(b"\r\n\r\n", b"\r\n" + bad + b"\r\n\r\n")
    weir = await gate(await provide(Script((Send(answer + body), Fin()))), retry={"attempts": 1})
    client = await weir.fetch(stream=False)
    assert client.status in {200, 502}
    assert "set-cookie" not in client.headers
    assert b"\x00" not in client.raw


async def test_an_answer_with_two_lengths(provide: Any, gate: Any) -> None:
    """Content-Length and Transfer-Encoding together are a smuggler's: the answer is refused, and we never send both (F6)."""
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    )
    weir = await gate(await provide(Script((Send(answer), Fin()))), retry={"attempts": 1})
    client = await weir.fetch(stream=False)
    assert client.status == 502
    assert ("content-length" in client.headers) != ("transfer-encoding" in client.headers)
