"""What the bytes that a client got amount to: read by the marks that each dialect's own documentation names, not by the gateway's readers.

Only the cutting into frames is shared with the gateway: it has laws and fuzz tests of its own.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal, cast

import msgspec
import orjson
from msgspec import Struct

from gateway.core.call import Call
from gateway.core.events import Delta, Event
from gateway.dialects import DIALECTS
from gateway.sim.chaos.asking import asking
from gateway.sim.chaos.ledger import Answer, inflated
from gateway.wire.framing import Frame, Parser

Ending = Literal["whole", "error", "torn"]
"""A proper end in the dialect's own words; an error in its words; neither, which nobody may take for an answer."""
Match = Literal["verbatim", "inflated", "stripped", "translated", "prefix", "altered", ""]
"""How a client's bytes relate to what its provider said; "" where nothing could be compared."""
JSON = "application/json"
_HUGE = 1 << 30
_USAGE = b'"choices":[]'


class Heard(Struct):
    """One answer as it arrived: `proper` says that HTTP's framing came to its end."""

    status: int
    media_type: str
    encoding: str
    body: bytes
    proper: bool

    @property
    def plain(self) -> bytes:
        """The body without its compression, as far as it goes."""
        return inflated(self.body, self.encoding)


def _openai(_: str, said: Mapping[str, Any]) -> Ending | None:
    if said.get("error"):
        return "error"
    return "whole" if any(choice.get("finish_reason") for choice in said.get("choices") or ()) else None


def _responses(name: str, said: Mapping[str, Any]) -> Ending | None:
    if name == "error" or said.get("type") in {"error", "response.failed"}:
        return "error"
    return "whole" if said.get("type") in {"response.completed", "response.incomplete"} else None


def _anthropic(name: str, said: Mapping[str, Any]) -> Ending | None:
    if name == "error" or said.get("type") == "error":
        return "error"
    return "whole" if said.get("type") == "message_stop" else None


def _gemini(_: str, said: Mapping[str, Any]) -> Ending | None:
    if said.get("error"):
        return "error"
    return "whole" if any(candidate.get("finishReason") for candidate in said.get("candidates") or ()) else None


def _bedrock(name: str, _: Mapping[str, Any]) -> Ending | None:
    if name.startswith(("exception:", "error:")):
        return "error"
    return "whole" if name == "messageStop" else None


def _ollama(_: str, said: Mapping[str, Any]) -> Ending | None:
    if said.get("error"):
        return "error"
    return "whole" if said.get("done") is True else None


MARKS: Mapping[str, Callable[[str, Mapping[str, Any]], Ending | None]] = {
    "openai": _openai,
    "azure": _openai,
    "openai-responses": _responses,
    "anthropic": _anthropic,
    "gemini": _gemini,
    "bedrock": _bedrock,
    "ollama": _ollama,
}


def ending(call: Call, heard: Heard) -> Ending:
    """Say how an answer with status 200 ended, by its own words; the error outweighs an end that came with it."""
    if heard.media_type == JSON:
        said = _object(heard.plain)
        return "torn" if said is None or not heard.proper else "error" if said.get("error") else "whole"
    found = [_said(call, frame) for frame in frames(call, heard.plain)]
    return "error" if "error" in found else "whole" if "whole" in found else "torn"


def _said(call: Call, frame: Frame) -> Ending | None:
    said = _object(frame.data)
    return MARKS[call.dialect](frame.name, said or {}) if said is not None or frame.name else None


def _object(data: bytes) -> dict[str, Any] | None:
    try:
        found = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None


def frames(call: Call, body: bytes) -> list[Frame]:
    """Return the whole frames of a stream; a last one without its end stands for itself, as a client at the end of a body sees it."""
    framing = DIALECTS[call.dialect].framing(call)
    parser = cast("Callable[[int], Parser]", type(framing.parser()))(_HUGE)  # here nothing is too large to be read
    found = parser.feed(body)
    if parser.tail.strip() and framing.ending:
        found += parser.feed(framing.ending)
    return found


def match(call: Call, heard: Heard, answers: Sequence[Answer], end: Ending) -> Match:
    """Compare with everything that providers said for this call: bytes where dialects are of one family, words where they are not."""
    family = DIALECTS[call.dialect].family
    native = [answer for answer in answers if DIALECTS[answer.dialect].family == family and answer.payload is not None]
    if any(answer.whole and bytes(answer.payload or b"") == heard.body for answer in native):
        return "verbatim"
    if any(answer.encoding and answer.whole and answer.said == heard.body for answer in native):
        return "inflated"
    if end == "whole" and heard.proper:
        if any(answer.whole and _stripped(answer) == heard.body for answer in native):
            return "stripped"
        others = [answer for answer in answers if answer not in native and answer.whole]
        return "translated" if any(_words(call, heard) == _words_of(answer) for answer in others) else "altered"
    if not native:
        return ""
    return "prefix" if any(_begins(call, heard, answer) for answer in native) else "altered"


def _stripped(answer: Answer) -> bytes:
    """Return a payload without the frames that only say usage."""
    events = answer.said.split(b"\n\n")
    return b"\n\n".join(event for event in events if not (_USAGE in event and b'"usage":{' in event))


def _begins(call: Call, heard: Heard, answer: Answer) -> bool:
    """Say whether all that came was said so, but for an error that the gateway put last."""
    payloads, body = (bytes(answer.payload or b""), answer.said, _stripped(answer)), heard.body
    if any(payload.startswith(body) for payload in payloads):
        return True
    if heard.media_type == JSON or heard.encoding or not (found := frames(call, body)):
        return False
    if _said(call, found[-1]) != "error":
        return False
    before, torn = body[: -len(found[-1].raw)], DIALECTS[call.dialect].framing(call).ending
    shorter = before.removesuffix(torn) if torn else before
    return any(payload.startswith((before, shorter)) for payload in payloads)


def _words(call: Call, heard: Heard) -> str:
    return _text(call, heard.plain, heard.media_type == JSON)


def _words_of(answer: Answer) -> str:
    document = answer.media_type == JSON
    return _text(asking(answer.dialect, stream=not document), answer.said, document)


def _text(call: Call, body: bytes, document: bool) -> str:
    """Return everything that is said for people to read; frames that nobody can read say nothing."""
    dialect = DIALECTS[call.dialect]
    events: list[Event] = []
    reader = dialect.reader(call)
    with suppress(msgspec.MsgspecError):
        if document:
            events += dialect.read_document(call, body)
        for frame in () if document else frames(call, body):
            events += reader.events(frame)
    return "".join(event.text for event in events if isinstance(event, Delta) and event.kind == "text")
