"""The door for feedback: what is taken, what is refused and why, and what of it is told to the recorder."""

from typing import Any

import orjson
import pytest

from gateway.core.messages import Feedback
from gateway.sim.faults import Silent

ID = "0123456789abcdef0123456789abcdef"
LOOPS = "both"


def said(make: Any, headers: dict[str, str] | None = None, **members: Any) -> bytes:
    """Return a whole request with these members, and nothing else where `stream_id` is None."""
    fields = {"stream_id": ID, "score": -1} | members
    return make.post(orjson.dumps({name: value for name, value in fields.items() if value is not None}), "/v1/feedback", headers)


async def test_it_is_told_and_answered_at_once(provide: Any, gate: Any, make: Any) -> None:
    """202 with the id; the stream need not be this worker's, nor any; the connection lives on."""
    weir = await gate(await provide())
    client = await weir.client()
    for score in (-1, 0, 1):
        await client.ask(said(make, score=score)).finish()
        assert (client.status, client.document) == (202, {"stream_id": ID, "score": score, "comment": None})
        assert client.headers["content-type"] == "application/json"
    assert weir.book.of(Feedback) == [Feedback(ID, score) for score in (-1, 0, 1)]
    assert weir.book.records == []


BAD = {
    "no JSON": (b"{nonsense", 400, "invalid_json"),
    "empty": (b"", 400, "invalid_json"),
    "a list": (b"[1]", 400, "invalid_json"),
    "too deep": (b'{"stream_id":' + b"[" * 20_000, 400, "invalid_json"),
    "no id": (b'{"score": 1}', 400, "invalid_feedback"),
    "no score": (b'{"stream_id": "%b"}' % ID.encode(), 400, "invalid_feedback"),
    "score 2": (b'{"stream_id": "%b", "score": 2}' % ID.encode(), 400, "invalid_feedback"),
    "score true": (b'{"stream_id": "%b", "score": true}' % ID.encode(), 400, "invalid_feedback"),
    "score 0.5": (b'{"stream_id": "%b", "score": 0.5}' % ID.encode(), 400, "invalid_feedback"),
    "score NaN": (b'{"stream_id": "%b", "score": NaN}' % ID.encode(), 400, "invalid_feedback"),
    "score text": (b'{"stream_id": "%b", "score": "1"}' % ID.encode(), 400, "invalid_feedback"),
    "score huge": (b'{"stream_id": "%b", "score": 1%b}' % (ID.encode(), b"0" * 5000), 400, "invalid_json"),
    "unknown member": (b'{"stream_id": "%b", "score": 1, "user": "me"}' % ID.encode(), 400, "invalid_feedback"),
    "comment no text": (b'{"stream_id": "%b", "score": 1, "comment": 7}' % ID.encode(), 400, "invalid_feedback"),
    "odd id": (b'{"stream_id": "../../etc", "score": 1}', 400, "invalid_stream_id"),
    "id with a line": (b'{"stream_id": "%b\\n", "score": 1}' % ID.encode(), 400, "invalid_stream_id"),
    "long comment": (b'{"stream_id": "%b", "score": 1, "comment": "%b"}' % (ID.encode(), b"x" * 2001), 400, "comment_too_long"),
    "long body": (b'{"stream_id": "%b", "score": 1, "comment": "%b"}' % (ID.encode(), b"x" * 40_000), 413, "request_too_large"),
    "long member": (b'{"stream_id": "%b", "score": 1, "%b": 1}' % (ID.encode(), b"x" * 20_000), 400, "invalid_feedback"),
}


@pytest.mark.parametrize("case", BAD)
async def test_what_is_no_feedback(provide: Any, gate: Any, make: Any, case: str) -> None:
    """It is refused in OpenAI's shape, in few words, and nobody is told."""
    body, status, code = BAD[case]
    weir = await gate(await provide())
    client = await (await weir.client()).ask(make.post(body, "/v1/feedback")).finish()
    error = client.document["error"]
    assert (client.status, error["code"], set(error)) == (status, code, {"message", "type", "param", "code"})
    assert (len(client.body) < 1000, weir.book.of(Feedback)) == (True, [])


async def test_a_body_without_end_is_not_waited_for(provide: Any, gate: Any) -> None:
    """However long it says that it will be: beyond its bound it is refused by its head, or when that much has come; and the connection
    closes. `server.max_body` is for calls."""
    weir = await gate(await provide())
    for head, body in (
        (b"Content-Length: 1000000", b"{"),
        (b"Transfer-Encoding: chunked", b"10000\r\n" + b"x" * 65536),
    ):
        client = await weir.client()
        await client.ask(b"POST /v1/feedback HTTP/1.1\r\nHost: weir\r\n%b\r\n\r\n%b" % (head, body)).gone()
        assert (client.status, client.document["error"]["code"]) == (413, "request_too_large")
    assert weir.book.of(Feedback) == []


async def test_a_body_that_does_not_come(provide: Any, gate: Any) -> None:
    """It is waited for as long as a call's: 408."""
    weir = await gate(await provide(), server={"body_timeout": "100ms"})
    client = await weir.client()
    await client.ask(b"POST /v1/feedback HTTP/1.1\r\nHost: weir\r\nContent-Length: 100\r\n\r\n{").gone()
    assert (client.status, client.document["error"]["code"]) == (408, "request_timeout")


async def test_only_post_and_from_no_other_site(provide: Any, gate: Any, make: Any) -> None:
    """405 for other methods; a page of another site may not say anything."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(b"GET /v1/feedback HTTP/1.1\r\nHost: weir\r\n\r\n").finish()
    assert (client.status, client.headers["allow"], client.document["error"]["code"]) == (405, "POST", "method_not_allowed")
    client = await (await weir.client()).ask(said(make, {"Sec-Fetch-Site": "cross-site"})).finish()
    assert (client.status, weir.book.of(Feedback)) == (403, [])


async def test_a_comment_that_nobody_may_keep_goes_nowhere(provide: Any, gate: Any, make: Any) -> None:
    """Where no route keeps content the answer says so, and the recorder never hears it."""
    weir = await gate(await provide())
    client = await (await weir.client()).ask(said(make, comment="in confidence")).finish()
    assert (client.status, client.document["comment"]) == (202, "dropped")
    assert weir.book.of(Feedback) == [Feedback(ID, -1, None)]


async def test_a_comment_is_the_routes_to_keep(provide: Any, gate: Any, make: Any, until: Any) -> None:
    """Of a stream that lives here the route is known; of any other the recorder decides."""
    weir = await gate(await provide(Silent()), match={"models": ["m"]})
    chat = weir.plane.config.routes[0]
    private = chat.model_copy(update={"name": "private", "match": chat.match.model_copy(update={"models": ("p",)})})
    await weir.worker.swap(weir.plane.config.model_copy(update={"routes": (chat.model_copy(update={"content": "full"}), private)}))
    fates = {}
    for model in ("m", "p"):
        stream = await weir.ask({"x-weir-tag-model": model}, model=model)
        await until(lambda: weir.plane.live)
        [live] = weir.plane.live.values()
        client = await (await weir.client()).ask(said(make, stream_id=live.record.stream_id, comment="so so")).finish()
        fates[model] = client.document["comment"], weir.book.of(Feedback)[-1].comment
        stream.reset()
        await weir.record(len(fates))
    client = await (await weir.client()).ask(said(make, comment="so so")).finish()
    fates["?"] = client.document["comment"], weir.book.of(Feedback)[-1].comment
    assert fates == {"m": ("kept", "so so"), "p": ("dropped", None), "?": ("by_route", "so so")}


async def test_any_text_can_be_said(provide: Any, gate: Any, make: Any) -> None:
    """2,000 characters of any kind, half an emoji as JavaScript cuts it, and what JSON needs two escapes for."""
    weir = await gate(await provide())
    chat = weir.plane.config.routes[0]
    await weir.worker.swap(weir.plane.config.model_copy(update={"routes": (chat.model_copy(update={"content": "full"}),)}))
    for written, heard in ((b"\\ud83d\\ude00" * 2000, "\U0001f600" * 2000), (b"a\\ud83d", "a?"), (b"a\\u0000\\n'", "a\0\n'")):
        body = b'{"stream_id": "%b", "score": 1, "comment": "%b"}' % (ID.encode(), written)
        client = await (await weir.client()).ask(make.post(body, "/v1/feedback")).finish()
        assert (client.status, weir.book.of(Feedback)[-1].comment == heard) == (202, True)
