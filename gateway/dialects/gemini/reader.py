"""What Gemini's chunks say: a typed reading of the few members that matter, and a lenient one for what does not fit it."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from gateway.core.events import Delta, Event, Failed, Finished, Meaning, Started, Terminated, ToolOpened, Usage
from gateway.dialects.gemini.chunks import Chunk, Counts, FunctionCall, NamedChunk, Part, loosely, word
from gateway.dialects.lenient import clipped, count, encodable, untyped
from gateway.wire.framing import Frame
from gateway.wire.jsonarray import END

MEANINGS: Mapping[str, Meaning] = {
    "STOP": "stop",
    "MAX_TOKENS": "length",
    "SAFETY": "filtered",
    "RECITATION": "filtered",
    "BLOCKLIST": "filtered",
    "PROHIBITED_CONTENT": "filtered",
    "SPII": "filtered",
    "IMAGE_SAFETY": "filtered",
    "IMAGE_PROHIBITED_CONTENT": "filtered",
    "IMAGE_RECITATION": "filtered",
    "MODEL_ARMOR": "filtered",
}
"""Finish reasons that mean something to everybody; every other (OTHER, LANGUAGE, MALFORMED_FUNCTION_CALL ...) is "other"."""

_CHUNK = msgspec.json.Decoder(Chunk)
_NAMED = msgspec.json.Decoder(NamedChunk)
_NOTHING = Usage()


class ChunkReader:
    """Reads one stream; it remembers the stream's name, its last counts and finish, and how many tools were called.

    With `awaits_end`, the finish is told when the array closes: an array that was cut after its last chunk has not come to its end.
    """

    __slots__ = ("_awaits_end", "_finished", "_named", "_started", "_tools", "_unclosed", "_usage")

    def __init__(self, awaits_end: bool = False) -> None:
        self._awaits_end = awaits_end
        self._named = False
        self._started = Started()
        self._finished: Finished | None = None
        self._usage = _NOTHING
        self._tools = 0
        self._unclosed = False

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says; raises as `dialects.base.Reader.events` does."""
        try:
            chunk = _CHUNK.decode(frame.data) if self._named else _NAMED.decode(frame.data)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            return self._odd(frame, error)
        return self._read(chunk)

    def _read(self, chunk: Chunk) -> list[Event]:
        events: list[Event] = []
        if not self._named:
            self._name(chunk, events)
        if chunk.candidates:
            for candidate in chunk.candidates:
                if candidate.content is not None and candidate.content.parts:
                    self._parts(candidate.content.parts, candidate.index or 0, events)
                if candidate.finish_reason:
                    self._finish(word(candidate.finish_reason), None, events)
        elif chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            blocked = chunk.prompt_feedback.block_reason  # numbered, it counts otherwise than a finish reason
            self._finish(word(blocked) if isinstance(blocked, str) else "OTHER", "filtered", events)
        if chunk.usage_metadata is not None:
            self._account(chunk.usage_metadata, events)
        if chunk.error:
            events.append(failed(chunk.error))
        return events

    def _name(self, chunk: Chunk, events: list[Event]) -> None:
        """Tell the stream's id and model once they are known."""
        assert isinstance(chunk, NamedChunk)
        known = self._started
        self._started = Started(known.id or clipped(chunk.response_id), known.model or clipped(chunk.model_version))
        self._named = bool(self._started.id and self._started.model)
        if self._started != known:
            events.append(self._started)

    def _parts(self, parts: Sequence[Part], index: int, events: list[Event]) -> None:
        """Read what a candidate says. Older models say STOP in every chunk: where more follows, it was not the end."""
        before = len(events)
        for part in parts:
            self._part(part, index, events)
        if len(events) > before:
            self._finished = None

    def _part(self, part: Part, index: int, events: list[Event]) -> None:
        if part.text:
            events.append(Delta("reasoning" if part.thought else "text", part.text, index))
        if part.function_call is not None:
            self._call(part.function_call, events)
        if part.executable_code is not None and part.executable_code.code:
            events.append(Delta("text", part.executable_code.code, index))
        if part.inline_data is not None and part.inline_data.data:
            events.append(Delta("audio", part.inline_data.data, index))  # pictures too: there is no other kind for media

    def _call(self, call: FunctionCall, events: list[Event]) -> None:
        """Read a tool call. One without arguments has none in JSON either, and means the empty object."""
        if not self._unclosed:
            events.append(ToolOpened(self._tools, clipped(call.id), clipped(call.name)))
            self._tools += 1
        goes_on = bool(call.will_continue)
        if text := _json(call.args) or _json(call.partial_args) or ("" if goes_on or self._unclosed else "{}"):
            events.append(Delta("arguments", text, self._tools - 1))
        self._unclosed = goes_on

    def _finish(self, word: str | None, meaning: Meaning | None, events: list[Event]) -> None:
        """Note why the answer ended; what is said again, with nothing between, is no news."""
        if word is None:
            return
        said = meaning or MEANINGS.get(word, "other")
        finished = Finished(word, "tools" if said == "stop" and self._tools else said)
        if finished != self._finished:
            self._finished = finished
            if not self._awaits_end:
                events.append(finished)

    def _account(self, counts: Counts, events: list[Event]) -> None:
        """Read the counts so far; what this chunk does not say stays as it was."""
        usage = _usage(counts, self._usage)
        if usage is not None:
            self._usage = usage
            events.append(usage)

    def _odd(self, frame: Frame, error: Exception) -> Sequence[Event]:
        """Read what the typed reading refused: the array's end, an error outside of any event, JSON of another shape; or raise."""
        data = frame.data.strip()
        if data == END and self._awaits_end:
            return [*([self._finished] if self._finished else []), Terminated()]
        if not data:
            return _bare_error(frame.raw)
        found = untyped(data)
        chunks = [chunk for chunk in (found if isinstance(found, list) else [found]) if isinstance(chunk, dict)]
        events = [event for chunk in chunks for event in self._read(loosely(chunk))]
        if not events:
            raise msgspec.ValidationError(f"no known shape: {type(found).__name__}") from error
        return events


def read_document(body: bytes, counts_only: bool) -> Sequence[Event]:
    """Return what an answer in one piece says; a count of tokens that were not used says nothing."""
    if not body or body.isspace():
        raise msgspec.DecodeError("an empty answer")
    events = ChunkReader().events(Frame(body, body, ""))
    return [event for event in events if type(event) is Failed] if counts_only else events


def read_error(status: int, body: bytes) -> Failed:
    """Return what an error answer says: `{"error": {...}}`, the same in an array, or any text."""
    try:
        found = untyped(body)
    except msgspec.DecodeError:
        return Failed(str(status), body[:4000].decode("utf-8", "replace").strip()[:1000])
    if isinstance(found, list) and found:
        found = found[0]
    error = found.get("error") if isinstance(found, dict) else None
    said = failed(error or {})
    return said if said.code != "upstream_error" else Failed(str(status), said.message)


def failed(error: Any) -> Failed:
    """Read an error object: its `status` is the word for it, its `code` an HTTP status."""
    if not isinstance(error, dict):
        return Failed("upstream_error", encodable(str(error))[:1000])
    codes = (error.get("status"), error.get("code"))
    code = next((str(code) for code in codes if code and isinstance(code, str | int)), "upstream_error")
    return Failed(encodable(code)[:64], encodable(str(error.get("message") or ""))[:1000])


def _usage(counts: Counts, known: Usage) -> Usage | None:
    """Derive the output from the total: whether the candidates' count includes thoughts differs between Google's services."""
    prompt, total, thoughts = (count(said) for said in (counts.prompt_token_count, counts.total_token_count, counts.thoughts_token_count))
    candidates, cached = count(counts.candidates_token_count), count(counts.cached_content_token_count)
    if prompt is total is thoughts is candidates is cached is None:
        return None  # Vertex names the kind of traffic in chunks that count nothing yet
    spent = known.input if prompt is None else prompt + (count(counts.tool_use_prompt_token_count) or 0)
    output = known.output
    if total is not None and spent is not None and total >= spent:
        output = total - spent
    elif candidates is not None or thoughts is not None:
        output = (candidates or 0) + (thoughts or 0)
    return Usage(
        input=spent,
        output=output,
        cached=known.cached if cached is None else cached,
        reasoning=known.reasoning if thoughts is None else thoughts,
    )


def _bare_error(raw: bytes) -> Sequence[Event]:
    """Read an error that is no event: Google's front ends write it as plain JSON over several lines."""
    text = raw.strip()
    if not text.startswith((b"{", b"[")) or b'"error"' not in text:
        return ()
    try:
        found = untyped(text)
    except msgspec.DecodeError:
        return ()
    chunks = found if isinstance(found, list) else [found]
    return [failed(chunk["error"]) for chunk in chunks if isinstance(chunk, dict) and chunk.get("error")]


def _json(raw: msgspec.Raw) -> str:
    """Return JSON as text on one line; "" for nothing and null."""
    text = bytes(raw)
    if b"\n" in text:
        text = msgspec.json.format(text, indent=-1)
    return "" if text == b"null" else text.decode("utf-8", "replace")
