"""What translation makes of one call and its answer, as text: `python -m tests.goldens.make` writes every golden anew.

A golden is named `CASE.FROM-TO.txt`: a client of the dialect FROM, an upstream of the dialect TO. `requests/FROM.CASE.json` is what the
client sends, `answers/TO.*.txt` how the upstream answers; a message of Bedrock's binary streams is written `name {payload}` there, an
exception `!name {payload}`. No process, no clock, no socket: the dialects' own functions in the order in which the proxy calls them.
"""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson

from gateway.core.call import Call
from gateway.core.errors import Rejected, UpstreamError
from gateway.core.events import Event, Failed
from gateway.dialects import DIALECTS
from gateway.dialects.base import Asked, Dialect, Stamp
from gateway.wire import eventstream

HERE = Path(__file__).parent
STAMP = Stamp("0123456789abcdef0123456789abcdef", 1_763_700_000)
CASES = {"text": "text", "tools": "tools", "image": "text", "schema": "json", "error": "error", "whole": "whole"}
"""Every case, and which of its answers the upstream gives."""
MODELS = {"anthropic": "claude-sonnet-4-5", "gemini": "gemini-2.5-flash", "bedrock": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"}
"""What a target is asked for, "served" where its name does not matter."""
PAIRS = (
    *(("openai", to) for to in ("openai-responses", "anthropic", "gemini", "bedrock", "ollama")),
    *((name, "openai") for name in ("openai-responses", "anthropic", "gemini", "bedrock", "ollama")),
)
"""Translated in every case."""
REFUSALS = (("openai", "openai-responses"), ("openai", "ollama"))
"""Asked for something that the target cannot be told."""
CROSSINGS = (("openai-responses", "anthropic"), ("anthropic", "gemini"), ("gemini", "bedrock"), ("bedrock", "ollama"), ("ollama", "azure"))
"""Translated with tools only, the case in which dialects differ most."""
_DOORS = {
    "openai": "/v1/chat/completions",
    "openai-responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:streamGenerateContent",
    "bedrock": "/model/{id}/converse-stream",
    "ollama": "/api/chat",
}
_WHOLE = {"gemini": "/v1beta/models/{model}:generateContent", "bedrock": "/model/{id}/converse"}
_SOURCES = {"error": "text", "whole": "tools"}
_FAMILY = {"azure": "openai"}


def names() -> list[str]:
    """Return the name of every golden, without its ending."""
    more = (("tools", CROSSINGS), ("refused", REFUSALS))
    return [f"{case}.{of}-{to}" for case, pairs in (*((case, PAIRS) for case in CASES), *more) for of, to in pairs]


def golden(name: str) -> str:
    """Return the text of one golden."""
    case, _, pair = name.partition(".")
    of, to = next((of, to) for of, to in PAIRS + CROSSINGS if f"{of}-{to}" == pair)
    return f"{case}: {of} -> {to}\n" + "".join(
        f"\n=== {title}\n{text.rstrip()}\n" for title, text in _story(case, DIALECTS[of], DIALECTS[to])
    )


def _story(case: str, of: Dialect, to: Dialect) -> Iterator[tuple[str, str]]:
    call = _asked(case, of)
    yield f"the client asks: POST {_door(case, of)}", _pretty(call.body)
    try:
        prompt = msgspec.structs.replace(of.read_prompt(call), model=MODELS.get(to.name, "served"))
        told = to.compose(prompt)
    except Rejected as error:
        yield f"the client is refused: {error.status}", _pretty(of.error_body(error))
        return
    if dropped := to.unsaid(prompt):
        yield "the upstream is not told", "\n".join(dropped)
    sent = to.outgoing(told, None, False)
    headers = "".join(f"\n{name}: {value}" for name, value in sent.headers)
    yield f"the upstream is asked: POST {sent.path}{headers}", _pretty(sent.body)
    written = (HERE / "answers" / f"{_FAMILY.get(to.name, to.name)}.{CASES[case]}.txt").read_text()
    yield "the upstream answers", _pretty(written.encode()) if case == "whole" else written
    if case == "whole":
        yield "the client is answered", _pretty(of.write_document(call, to.read_document(told, written.encode()), STAMP))
    else:
        yield "the client is answered", _shown(of, _translated(_packed(to, written), of, call, to, told))


def _asked(case: str, of: Dialect) -> Call:
    said = (HERE / "requests" / f"{of.name}.{_SOURCES.get(case, case)}.json").read_bytes()
    body = orjson.loads(said)
    if case == "whole":
        streaming = {"stream": False} if of.name == "ollama" else {}
        body = {key: value for key, value in body.items() if key not in {"stream", "stream_options"}} | streaming
    endpoint = next(endpoint for endpoint in of.endpoints if endpoint.path == _door(case, of))
    return of.parse_call(endpoint, orjson.dumps(body), Asked({"model": "asked", "id": "asked"}, {"alt": "sse"} if case != "whole" else {}))


def _door(case: str, of: Dialect) -> str:
    return _WHOLE.get(of.name, _DOORS[of.name]) if case == "whole" else _DOORS[of.name]


def _translated(stream: bytes, of: Dialect, call: Call, to: Dialect, told: Call) -> bytes:
    """Say a stream anew; what follows a failure is no part of the answer."""
    reader, writer, said = to.reader(told), of.writer(call, STAMP), b""
    for frame in to.framing(told).parser().feed(stream):
        events = list(reader.events(frame))
        failure = next((event for event in events if isinstance(event, Failed)), None)
        said += writer.feed(_before(events, failure))
        if failure is not None:
            return said + writer.fail(UpstreamError(failure.message, code=failure.code))
    return said + writer.end()


def _before(events: list[Event], failure: Failed | None) -> list[Event]:
    return events if failure is None else events[: events.index(failure)]


def _packed(to: Dialect, written: str) -> bytes:
    """Return a written answer as it goes over the wire."""
    if to.name == "bedrock":
        lines = (line.partition(" ") for line in written.splitlines())
        return b"".join(
            eventstream.exception(name[1:], said.encode()) if name.startswith("!") else eventstream.event(name, said.encode())
            for name, _, said in lines
        )
    return (written.replace("\n", "\r\n") if to.name == "gemini" else written).encode()


def _shown(of: Dialect, stream: bytes) -> str:
    """Return a stream as it can be read; only line ends are not told apart."""
    if of.name != "bedrock":
        return stream.decode().replace("\r\n", "\n")
    lines = []
    for frame in eventstream.Parser().feed(stream):
        mark = "!" if b":exception-type" in frame.raw else ""
        lines.append(f"{mark}{frame.name.removeprefix('exception:')} {frame.data.decode()}")
    return "\n".join(lines)


def _pretty(body: bytes) -> str:
    """Return JSON indented, its members in their order."""
    return orjson.dumps(orjson.loads(body), option=orjson.OPT_INDENT_2).decode()


def main() -> None:
    """Write every golden, and remove those that are made no more."""
    for old in HERE.glob("*.*-*.txt"):
        old.unlink()
    for name in names():
        (HERE / f"{name}.txt").write_text(golden(name))


if __name__ == "__main__":
    main()
