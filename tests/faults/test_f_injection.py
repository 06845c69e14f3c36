"""Words of an upstream in what we say ourselves: line breaks and control characters in them make no event, no line and no header."""

import itertools
import re
from typing import Any

import msgspec
import orjson
import pytest

from gateway.core.errors import GatewayError
from gateway.core.events import Failed
from gateway.core.prompt import Prompt, Text, Turn
from gateway.dialects import DIALECTS
from gateway.sim.faults import ErrorEvent, Script, Status
from gateway.sim.plan import head
from gateway.sim.steps import Fin, Send

HELLO = Prompt(model="m", stream=True, turns=(Turn("user", (Text("hello"),)),), max_tokens=50)
WHOLE = msgspec.structs.replace(HELLO, stream=False)
EVIL = 'no\r\n\r\nevent: evil\r\ndata: {"evil":1}\n\n: evil\n\nid: evil\r\r{"evil":1}\n\x00\x1b\u2028evil\x85\r\nSet-Cookie: evil=1\r\n\r\n'
LINE = re.compile(rb"(?:^|[\r\n\x00])(?:event|data|id|retry|set-cookie)?:? ?\{?\"?evil", re.IGNORECASE)
ONCE = {"attempts": 1}


def sound(client: Any) -> None:
    """Nothing of what was slipped in stands where it would mean something."""
    assert not LINE.search(client.raw), client.raw
    assert b"\x00" not in client.raw.partition(b"\r\n\r\n")[0]
    assert "set-cookie" not in client.headers
    assert len(client.names) == len({name.lower() for name in client.names})
    assert ("content-length" in client.headers) != ("transfer-encoding" in client.headers)


@pytest.mark.parametrize("pair", list(itertools.product(DIALECTS, repeat=2)), ids="-".join)
async def test_the_message_of_an_error_stays_a_message(provide: Any, gate: Any, make: Any, pair: tuple[str, str]) -> None:
    """Said as a status, before the first token or after it, and in any other dialect: one error, its text inside a string (F6)."""
    mine, theirs = pair
    status = Status(400, body=orjson.dumps({"error": {"message": EVIL, "code": EVIL, "type": EVIL, "status": EVIL}}).decode())
    for fault, prompt in itertools.product((status, ErrorEvent(message=EVIL, first=True), ErrorEvent(2, message=EVIL)), (HELLO, WHOLE)):
        weir = await gate(await provide(fault), dialects=[theirs], retry=ONCE)
        call, request = make.call(mine, prompt)
        client = await (await weir.client()).ask(request).finish()
        sound(client)
        if client.status == 200:
            failures = [event.message for event in make.heard(call, client.body) if isinstance(event, Failed)]
            assert (len(set(failures)), len(failures) - (mine == "openai-responses")) == (1, 1)  # that one says it twice
        record = await weir.record()
        assert "evil" not in repr(record)
        assert record.error is None or re.fullmatch(r"[\w.:/-]+", record.error)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_an_error_of_ours_is_one_event(make: Any, dialect: str) -> None:
    """Whatever its message, it is one frame in a stream and one JSON document otherwise, in every dialect (F6)."""
    error = GatewayError(EVIL, code=EVIL)
    assert error.code == "gateway_error"
    call, _ = make.call(dialect, HELLO)
    for begun in (False, True):
        said = DIALECTS[dialect].error_event(error, call, begun)
        assert not LINE.search(said)
        [message] = {event.message for event in make.heard(call, said) if isinstance(event, Failed)}
        assert "evil" in message
    assert isinstance(orjson.loads(DIALECTS[dialect].error_body(error)), dict)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "bad", [b"x-request-id: a\x0bb", b"x-request-id: a\x7fb", b"retry-after: 7\x1b[31m", b"content-type: text/\x01html"]
)
async def test_a_control_character_in_a_header_ends_there(provide: Any, gate: Any, make: Any, dialect: str, bad: bytes) -> None:
    """A header of an upstream with one is dropped or its answer refused; it is never repeated (F6)."""
    answer = head(404, {}, 2).replace(b"\r\n\r\n", b"\r\n" + bad + b"\r\n\r\n") + b"{}"
    weir = await gate(await provide(Script((Send(answer), Fin()))), dialects=[dialect], retry=ONCE)
    client = await (await weir.client()).ask(make.call(dialect, HELLO)[1]).finish()
    assert client.status in {404, 502}
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", client.raw.partition(b"\r\n\r\n")[0])


@pytest.mark.parametrize("theirs", ["anthropic", "gemini", "ollama"])
async def test_a_members_name_makes_no_header(provide: Any, gate: Any, make: Any, theirs: str) -> None:
    """What a target was not told is named in a header only where the client's own name for it can stand in one (F6)."""
    weir = await gate(await provide(), dialects=[theirs])
    odd = {"evil\r\nSet-Cookie: evil=1": 1, "logit_bias": {"1": 1}, "x\x00y": 1, "service_tier": "auto"}
    client = await (await weir.client()).ask(make.request(**odd)).finish()
    assert client.status in {200, 400}
    sound(client)
    assert "set-cookie" not in client.raw.partition(b"\r\n\r\n")[0].decode().lower()
