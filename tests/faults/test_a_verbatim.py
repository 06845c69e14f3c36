"""A3 to A6, A11, A12, A16: whatever is said, and however its bytes fall, the client's bytes are the upstream's."""

import random
from typing import Any

import pytest

from gateway.sim.faults import InOrder
from tests.faults.everywhere import in_every_dialect
from tests.faults.scripts import answer, fetch
from tests.faults.tongue import Tongue, message, sse, sse_fields
from tests.faults.tongues import TONGUES, converse

DIALECTS = pytest.mark.parametrize("dialect", TONGUES)
MANY_BYTES = "é € 𝄞 👩‍👩‍👧 שלום"
"""Characters of two, three and four bytes, and one that is several joined."""


async def carried(provide: Any, gate: Any, tongue: Tongue, *scripts: Any) -> tuple[Any, list[Any]]:
    """Carry one answer for each script, one after the other, and return the gate and what its clients got."""
    weir = await gate(await provide(InOrder(scripts)), dialects=[tongue.name])
    return weir, [await fetch(weir, tongue) for _ in scripts]


def account(record: Any) -> tuple[Any, ...]:
    """What telemetry has of an answer, times aside."""
    return record.outcome, record.cadence.chunks, record.usage, record.finish, record.served_model, record.parser_errors


@DIALECTS
async def test_characters_cut_in_two(provide: Any, gate: Any, dialect: str) -> None:
    """Cut at every byte of an event with characters of many bytes, the bytes and what is read of them are as when uncut (A3 A4)."""
    tongue = TONGUES[dialect]
    said = tongue.speech("a", MANY_BYTES, "b")
    start = said.index(tongue.token(MANY_BYTES))
    places = range(start - 3, start + len(tongue.token(MANY_BYTES)) + 3)
    cuts = [answer(tongue, said[:at], said[at:]) for at in places]
    weir, clients = await carried(provide, gate, tongue, answer(tongue, said), *cuts)
    assert {client.body for client in clients} == {said}
    whole, *rest = weir.book.records
    assert (whole.outcome, whole.cadence.chunks, whole.parser_errors) == ("completed", 3, {})
    assert all(account(record) == account(whole) for record in rest)


@DIALECTS
async def test_byte_by_byte(provide: Any, gate: Any, dialect: str) -> None:
    """An answer that comes one byte at a time is the same answer, event for event (A3 A4)."""
    tongue = TONGUES[dialect]
    said = tongue.speech("a", MANY_BYTES)
    weir, clients = await carried(
        provide, gate, tongue, answer(tongue, said), answer(tongue, *(said[at : at + 1] for at in range(len(said))))
    )
    assert [client.body for client in clients] == [said, said]
    assert account(weir.book.records[0]) == account(weir.book.records[1])
    assert weir.book.records[1].cadence.chunks == 2


@DIALECTS
async def test_cut_anywhere(provide: Any, gate: Any, dialect: str) -> None:
    """However reads tear and merge events, bytes and account are the same: thirty ways to cut one answer, and all of it at once (A4)."""
    tongue, dice = TONGUES[dialect], random.Random(dialect)
    said = tongue.speech(*(f"token {number}" for number in range(20)))
    scripts = [answer(tongue, said)]
    for _ in range(30):
        places = sorted(dice.sample(range(1, len(said)), dice.randint(1, 25)))
        scripts.append(answer(tongue, *(said[a:b] for a, b in zip([0, *places], [*places, len(said)], strict=True))))
    weir, clients = await carried(provide, gate, tongue, *scripts)
    assert {client.body for client in clients} == {said}
    assert weir.book.records[0].cadence.chunks == 20
    assert {str(account(record)) for record in weir.book.records} == {str(account(weir.book.records[0]))}


def odd(tongue: Tongue) -> tuple[bytes, bytes]:
    """Return framing that is unusual and allowed, around the events of a token, and where there is none a byte-order mark."""
    if tongue.name == "bedrock":
        early = message({":message-type": "event", ":event-type": "initial-response", "x-more": "é"}, b"")
        return early, converse("somethingNew", b'{"a":null}')
    if tongue.name == "ollama":
        return b"\n\r\n", b"  \n" + tongue.token("x").strip() + b" \r\n"
    name, data = sse_fields(tongue.token("x"))
    told = b"event:" + name.encode() + b"\r\n" if name else b""
    raw = tongue.token("x").partition(b"data: ")[2].rstrip()
    assert data
    return b"\xef\xbb\xbf: comment\n\n", b"".join(
        (
            b":\n\n" + told + b"data:" + raw + b"\r\n\r\n",
            b"id: 7\nretry: 10\nunknown: field\nnocolon\n" + told.replace(b"\r\n", b"\n") + b"data: " + raw + b"\n\n",
            told.replace(b"\r\n", b"\r") + b"data: " + raw.replace(b",", b",\rdata:", 1) + b"\r\r",
        )
    )


@DIALECTS
async def test_odd_framing(provide: Any, gate: Any, dialect: str) -> None:
    """Whatever its framing allows (marks, comments, other line ends, fields and lines nobody knows) is relayed as it came and read (A5)."""
    tongue = TONGUES[dialect]
    early, middle = odd(tongue)
    said = early + tongue.spoken("one") + middle + tongue.token("two") + tongue.proper
    cuts = [answer(tongue, said[:at], said[at:]) for at in range(1, len(early + tongue.spoken("one") + middle), 7)]
    weir, clients = await carried(provide, gate, tongue, answer(tongue, said), *cuts)
    assert {client.body for client in clients} == {said}
    whole, *rest = weir.book.records
    assert (whole.outcome, whole.parser_errors) == ("completed", {})
    assert whole.cadence.chunks == {"bedrock": 2, "ollama": 3}.get(dialect, 5)
    assert all(account(record) == account(whole) for record in rest)


STRANGE = b'"x_new":null,"x_new":{"a" : [1e2,100,-0.0]},"\\u0065":"\\u00e9\\/",  "x_last":"' + "é\u2028".encode() + b'"'
"""Keys nobody knows, some twice, numbers and escapes that a rewriter would tidy, and spacing of its own."""


def strange(tongue: Tongue) -> bytes:
    """Return a token whose JSON holds what no model of it knows."""
    if tongue.name == "bedrock":
        return converse("contentBlockDelta", b'{%b,"delta":{"text":"x"},"contentBlockIndex":0}' % STRANGE)
    front, brace, rest = tongue.token("x").partition(b"{")
    return front + brace + STRANGE + b"," + rest


@DIALECTS
async def test_what_nobody_knows(provide: Any, gate: Any, dialect: str) -> None:
    """Unknown and repeated keys, nulls, odd numbers and spacing go through untouched, in answers of both kinds and in calls (A6)."""
    tongue = TONGUES[dialect]
    said = b"".join(tongue.preamble) + strange(tongue) + tongue.proper
    document = tongue.document[:-1] + b" ," + STRANGE + b"\n}"
    provider = await provide(InOrder([answer(tongue, said), answer(tongue, document, headers={"Content-Type": "application/json"})]))
    weir = await gate(provider, dialects=[dialect])
    for stream, expected in ((True, said), (False, document)):
        plain = tongue.request(stream).partition(b"\r\n\r\n")[2]
        asked = plain[:-1] + b' , "x_new":null,"x_new":[1e2, 100]}'
        client = await (await weir.client()).ask(tongue.post(asked, stream)).finish()
        assert (client.status, client.body) == (200, expected)
        assert provider.requests[-1].body == asked
    assert {record.outcome for record in weir.book.records} == {"completed"}
    assert weir.book.records[0].cadence.chunks == 1


async def test_a_stream_of_tool_calls(provide: Any, gate: Any) -> None:
    """A stream of nothing but tool calls has its first token at the first of them, and runs past every timer while they come (A11 B5)."""

    async def story(tongue: Tongue) -> None:
        pieces = [piece for number in range(6) for piece in (tongue.arguments(f'{{"{number}'), 0.15)]
        script = answer(tongue, b"".join(tongue.preamble), 0.2, tongue.tool, *pieces, tongue.proper)
        weir = await gate(await provide(script), dialects=[tongue.name], stall={"liveness": 0.5, "progress": 0.5})
        client = await fetch(weir, tongue)
        record = await weir.record()
        assert client.body == b"".join(tongue.preamble) + tongue.tool + b"".join(pieces[::2]) + tongue.proper
        assert (record.outcome, record.parser_errors, record.cadence.chunks) == ("completed", {}, 7)
        assert record.ended_at - record.received_at > 1.0
        assert record.first_token_at - record.first_byte_at > 0.1
        assert record.first_answer_at == record.first_token_at

    await in_every_dialect(story)


@pytest.mark.parametrize("dialect", ["openai", "azure"])
@pytest.mark.parametrize("index", [b'"0"', b"null", b"7", b"-1", b"{}"])
async def test_a_tool_call_with_an_odd_index(provide: Any, gate: Any, dialect: str, index: bytes) -> None:
    """Servers that miss, repeat or misspell a tool call's index confuse neither relay nor account (A11)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken() + (tongue.tool + tongue.arguments("{}") * 2).replace(
        b'"tool_calls":[{"index":0', b'"tool_calls":[{"index":' + index
    )
    weir, [client] = await carried(provide, gate, tongue, answer(tongue, said + tongue.proper))
    [record] = weir.book.records
    assert client.body == said + tongue.proper
    assert (record.outcome, record.cadence.chunks) == ("completed", 3)
    assert set(record.parser_errors) <= {"schema"}


@DIALECTS
async def test_one_huge_event(provide: Any, gate: Any, dialect: str) -> None:
    """An event of 2 MiB in small writes is relayed; it is read or, above the limit, skipped and counted; what follows is read (A12)."""
    tongue = TONGUES[dialect]
    said = tongue.spoken("one") + tongue.token("x" * 2_000_000) + tongue.token("two") + tongue.proper
    weir, [client] = await carried(provide, gate, tongue, answer(tongue, *(said[at : at + 16_000] for at in range(0, len(said), 16_000))))
    [record] = weir.book.records
    assert client.body == said
    assert record.outcome == "completed"
    assert (record.cadence.chunks, record.parser_errors) in [(3, {}), (2, {"oversize": 1})]
    assert record.finish != []


@DIALECTS
async def test_one_event_that_is_no_json(provide: Any, gate: Any, dialect: str) -> None:
    """A malformed event in a good stream is passed on, counted once, and the stream goes on (A16)."""
    tongue = TONGUES[dialect]
    bad = {"bedrock": converse("contentBlockDelta", b'{"delta":{bad'), "ollama": b"{bad json\n"}.get(dialect, sse(b"{bad json"))
    said = tongue.spoken("one") + bad + tongue.token("two") + tongue.proper
    weir, [client] = await carried(provide, gate, tongue, answer(tongue, said))
    [record] = weir.book.records
    assert client.body == said
    assert (record.outcome, record.cadence.chunks) == ("completed", 2)
    assert record.parser_errors == {"json": 1}


@pytest.mark.parametrize("how", ["checksum", "prelude"])
async def test_a_message_with_a_wrong_checksum(provide: Any, gate: Any, how: str) -> None:
    """A binary message whose checksum is wrong is passed on for the client to judge; nothing is read from it (A16)."""
    tongue = TONGUES["bedrock"]
    token = bytearray(tongue.token("two"))
    token[-1 if how == "checksum" else 9] ^= 0xFF
    said = tongue.spoken("one") + bytes(token) + tongue.token("three") + tongue.proper
    weir, [client] = await carried(provide, gate, tongue, answer(tongue, said))
    [record] = weir.book.records
    assert client.body.startswith(said)
    assert record.parser_errors
    if how == "checksum":
        assert (client.body, record.outcome, record.cadence.chunks) == (said, "completed", 2)
