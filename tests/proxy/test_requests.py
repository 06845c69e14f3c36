"""Calls that cannot be carried: each is answered in OpenAI's error shape, recorded as rejected, and no upstream hears of it."""

import asyncio
import zlib
from typing import Any

import pytest

LOOPS = "both"


def error_of(client: Any) -> dict[str, Any]:
    """Return the error of an answer, which must have OpenAI's shape."""
    assert client.headers["content-type"].partition(";")[0] == "application/json"
    error: dict[str, Any] = client.document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


BAD = {
    "no JSON": (b"{nonsense", 400, "invalid_json"),
    "empty": (b"", 400, "invalid_json"),
    "a list": (b"[1]", 400, "invalid_json"),
    "a string": (b'"model"', 400, "invalid_json"),
    "no text": (b"\xff\xfe\x00", 400, "invalid_json"),
    "too deep": (b'{"model":"m","x":' + b"[" * 100_000, 400, "invalid_json"),
    "no model": (b'{"stream":true}', 400, "invalid_model"),
    "empty model": (b'{"model":""}', 400, "invalid_model"),
    "null model": (b'{"model":null}', 400, "invalid_model"),
    "a number": (b'{"model":7}', 400, "invalid_model"),
    "unknown model": (b'{"model":"gpt-9","stream":true}', 404, "model_not_found"),
}


@pytest.mark.parametrize("case", BAD)
async def test_bodies_that_are_no_calls(provide: Any, gate: Any, make: Any, case: str) -> None:
    """What is no JSON object with a known model is refused before anything else happens, and the connection lives on."""
    body, status, code = BAD[case]
    provider = await provide()
    weir = await gate(provider, match={"models": ["m"]})
    client = await (await weir.client()).ask(make.post(body)).finish()
    record = await weir.record()
    assert (client.status, error_of(client)["code"], provider.total) == (status, code, 0)
    assert error_of(client)["type"] == "invalid_request_error"
    assert (record.outcome, record.error, record.status, record.attempts) == ("rejected", code, status, [])
    assert client.headers["x-weir-stream-id"] == record.stream_id
    assert (await client.ask(make.request()).finish()).status == 200


@pytest.mark.parametrize(("length", "status", "kept"), [(256, 404, 256), (257, 400, 0), (100_000, 400, 0)])
async def test_a_long_model_name(provide: Any, gate: Any, length: int, status: int, kept: int) -> None:
    """A name nobody knows is recorded as far as any model's is long; a longer one is none, and nothing of it is kept (F3)."""
    weir = await gate(await provide(), match={"models": ["m"]})
    client = await weir.fetch(model="x" * length)
    assert (client.status, len(client.body) < 1000, len((await weir.record()).asked_model)) == (status, True, kept)


async def test_a_body_that_is_too_large(provide: Any, gate: Any, until: Any) -> None:
    """Above `max_body`: 413 before any upstream is called, and the connection closes, since the rest of the body is not wanted (A14)."""
    provider = await provide()
    weir = await gate(provider, server={"max_body": 100_000})
    client = await weir.fetch(messages="x" * 300_000)
    assert (client.status, error_of(client)["code"], client.headers["connection"]) == (413, "request_too_large", "close")
    await client.gone()
    record = await weir.record()
    assert (record.outcome, record.status, provider.total) == ("rejected", 413, 0)
    assert (await weir.fetch(messages="x" * 90_000)).status == 200


async def test_a_large_body_is_taken(provide: Any, gate: Any, make: Any) -> None:
    """Twenty megabytes of pictures are an ordinary call (A14)."""
    provider = await provide()
    weir = await gate(provider, usage="leave")
    content = make.request(messages="x" * 19_000_000).partition(b"\r\n\r\n")[2]
    client = await (await weir.client()).ask(make.post(content)).finish()
    assert (client.status, provider.requests[0].body == content) == (200, True)


async def test_a_slow_upload_is_the_clients_time(provide: Any, gate: Any, make: Any) -> None:
    """Until the call has been read, the moments are its client's."""
    weir = await gate(await provide())
    request = make.request()
    client = await weir.client()
    client.ask(request[:-10])
    await asyncio.sleep(0.2)
    client.transport.write(request[-10:])
    await client.finish()
    record = await weir.record()
    assert record.seconds["client_blocked"] > 0.15
    assert record.outcome == "completed"


async def test_a_chunked_call(provide: Any, gate: Any, make: Any) -> None:
    """A body in chunks, or compressed, is read like any other, and goes on with its length."""
    provider = await provide()
    weir = await gate(provider, usage="leave")
    content = make.request().partition(b"\r\n\r\n")[2]
    opening = b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\n"
    chunks = opening + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(content), content)
    pressed = zlib.compress(content)
    squeezed = opening + b"Content-Encoding: deflate\r\nContent-Length: %d\r\n\r\n%b" % (len(pressed), pressed)
    for call in (chunks, squeezed):
        assert (await (await weir.client()).ask(call).finish()).status == 200
        assert provider.requests[-1].body == content
        assert provider.requests[-1].headers["content-length"] == str(len(content))
        assert "content-encoding" not in provider.requests[-1].headers


@pytest.mark.parametrize(
    "rest",
    [
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\nrubbish",
        b"Content-Encoding: gzip\r\nContent-Length: 7\r\n\r\nrubbish",
        b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["bad chunks", "bad gzip", "two lengths"],
)
async def test_a_body_that_cannot_be_read(provide: Any, gate: Any, rest: bytes) -> None:
    """A broken body is its sender's mistake: a 4xx, no upstream, no complaint in our log (F1 F6)."""
    provider = await provide()
    weir = await gate(provider)
    client = (await weir.client()).ask(b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer canary\r\n" + rest)
    await client.finish()
    assert 400 <= client.status < 500
    assert provider.total == 0
    assert {record.outcome for record in weir.book.records} <= {"rejected"}


async def test_a_key_in_a_broken_head_stays_out_of_the_log(provide: Any, gate: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A head that is no HTTP is refused without a word of it in the log (F1)."""
    weir = await gate(await provide())
    caplog.set_level("DEBUG")
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer canary\x00\r\nContent-Length: 0\r\n\r\n"
    assert (await (await weir.client()).ask(head).finish()).status == 400
    assert "canary" not in caplog.text


async def test_paths_and_methods(provide: Any, gate: Any) -> None:
    """What is not there is 404, what is there for another method 405, in words an SDK can show."""
    weir = await gate(await provide())
    for line, status, code in (
        (b"POST /v1/nothing", 404, "not_found"),
        (b"GET /", 404, "not_found"),
        (b"GET /v1/chat/completions", 405, "method_not_allowed"),
        (b"DELETE /v1/embeddings", 405, "method_not_allowed"),
    ):
        client = await (await weir.client()).ask(line + b" HTTP/1.1\r\nHost: w\r\n\r\n").finish()
        assert (client.status, error_of(client)["code"]) == (status, code)
        if status == 405:
            assert client.headers["allow"] == "POST"
    assert weir.book.records == []


async def test_what_is_no_http(provide: Any, gate: Any) -> None:
    """Garbage on the port gets a 400 and a closed connection."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(b"\x16\x03\x01\x02\x00\r\n\r\n").gone()
    assert client.status == 400


async def test_a_stream_is_what_the_body_says(provide: Any, gate: Any, make: Any) -> None:
    """`"stream": "true"` and `1` are what most servers take them for; every other value asks for a document."""
    weir = await gate(await provide())
    for said, streamed in ((True, True), ("true", True), (1, True), (False, False), (None, False), ("no", False)):
        await weir.fetch(stream=said)
        assert weir.book.records[-1].streamed is streamed
