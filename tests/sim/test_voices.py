"""One plan in every dialect: what it says is read back by that dialect's own parser and reader, and its times are the same."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest
from msgspec import Struct

from gateway.core.answer import Answer as Whole
from gateway.core.answer import fold
from gateway.core.call import Call
from gateway.core.events import Delta, Event, Failed, Finished, Started, Terminated, ToolOpened, Usage
from gateway.dialects import DIALECTS
from gateway.sim import doors
from gateway.sim.accents import voice
from gateway.sim.answers import Answer, read_prompt
from gateway.sim.faults import FAULTS, HEALTHY, ErrorEvent, Fault, fault_from
from gateway.sim.plan import reply, stream
from gateway.sim.steps import Pause, Send, Step
from gateway.sim.tempers import Temper

TEMPER = Temper(ttft="300ms", gap="20ms", tokens=8, headers="50ms", role_delay="10ms", cached=2)
ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}),
    "azure": ("/openai/deployments/m/chat/completions?api-version=2024-10-21", {"stream": True, "messages": []}),
    "responses": ("/v1/responses", {"model": "m", "stream": True, "input": "How high is the water?"}),
    "anthropic": ("/v1/messages", {"model": "m", "stream": True, "max_tokens": 500, "thinking": {"type": "adaptive"}, "messages": []}),
    "gemini": (
        "/v1beta/models/m:streamGenerateContent?alt=sse",
        {"contents": [], "generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    ),
    "gemini-array": (
        "/v1beta/models/m:streamGenerateContent",
        {"contents": [], "generationConfig": {"thinkingConfig": {"includeThoughts": True}}},
    ),
    "converse": ("/model/m/converse-stream", {"messages": []}),
    "invoke": (
        "/model/m/invoke-with-response-stream",
        {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 500, "thinking": {"type": "adaptive"}, "messages": []},
    ),
    "ollama": ("/api/chat", {"model": "m", "messages": []}),
    "generate": ("/api/generate", {"model": "m", "prompt": "How high is the water?"}),
}
WHOLE_CALLS = {"gemini", "gemini-array", "ollama"}
"""They say a tool call in one piece."""


class Told(Struct):
    """What a plan says: its steps, every event and when it came, and the payload that was no event any more."""

    steps: list[Step]
    timed: list[tuple[float, Event]]
    tail: bytes
    payload: bytes

    @property
    def events(self) -> list[Event]:
        return [event for _, event in self.timed]

    @property
    def whole(self) -> Whole:
        return fold(self.events)

    def times(self) -> list[float]:
        """When generated output came."""
        return [at for at, event in self.timed if type(event) in {Delta, ToolOpened}]


def asked(name: str) -> Call:
    path, body = ASKS[name]
    address, _, query = path.partition("?")
    found = doors.find("POST", address)
    assert found is not None
    return doors.read_call(*found, query, orjson.dumps(body))


def plan(name: str, fault: Fault = HEALTHY, temper: Temper = TEMPER, streamed: bool = True, limit: int = 20_000) -> list[Step]:
    """The steps with which the provider answers one of `ASKS`, as it makes them for its first request."""
    call, dice = asked(name), random.Random(5)
    answer: Any
    if name in {"openai", "azure"}:
        answer = Answer(read_prompt("/v1/chat/completions", call.body, "m"), 0, dice, name)
    else:
        answer = voice(DIALECTS[call.dialect], call, doors.prompt_of(call), 0, dice)
    pace = temper.draw(dice)
    answer.compose(pace, temper.speech, temper.tokens_per_chunk)
    made = stream(answer, pace, temper.burst, fault, {}) if streamed else reply(answer, pace, fault, {})
    return list(itertools.islice(made, limit))


def tell(name: str, fault: Fault = HEALTHY, temper: Temper = TEMPER, limit: int = 20_000) -> Told:
    """Play a plan without waiting, and read what it says as a client of that dialect does."""
    call, steps = asked(name), plan(name, fault, temper, limit=limit)
    dialect = DIALECTS[call.dialect]
    parser, reader = dialect.framing(call).parser(), dialect.reader(call)
    told, now, body = Told(steps, [], b"", b""), 0.0, b""
    for step in steps:
        if type(step) is Pause:
            now += step.seconds
        if type(step) is not Send or step.part in {"raw", "head"}:
            continue
        payload = step.data[step.data.index(b"\r\n") + 2 : -2]
        body += payload
        for frame in parser.feed(payload):
            told.timed += [(now, event) for event in (reader.events(frame) if frame.data else ())]
    told.tail, told.payload = parser.tail.strip(), body
    return told


def parts(steps: Sequence[Step]) -> list[str]:
    return [step.part for step in steps if type(step) is Send]


@pytest.mark.parametrize("name", ASKS)
def test_a_healthy_stream_is_read_to_what_was_drawn(name: str) -> None:
    """Every dialect says the same words, ends properly, and counts in its own way what the draft counts."""
    told, plain = tell(name), tell("openai")
    assert told.whole.text == plain.whole.text
    assert told.tail == b""
    call = asked(name)
    finish = [event.reason for event in told.events if type(event) is Finished]
    assert DIALECTS[call.dialect].complete(Terminated() in told.events, finish)
    assert [event.meaning for event in told.events if type(event) is Finished] == ["stop"]
    if name != "azure":
        usage = told.whole.usage
        assert usage is not None
        assert (usage.input, usage.output, usage.cached) == (max(1, len(call.body) // 4), 8, 2)


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("temper", [TEMPER, Temper(ttft="uniform 10ms 900ms", gap="lognormal 18ms 35ms", tokens=20, burst=3)])
def test_the_same_plan_gives_the_same_times(name: str, temper: Temper) -> None:
    """Each token comes at the very moment at which it comes in OpenAI's dialect."""
    assert tell(name, temper=temper).times() == tell("openai", temper=temper).times()


@pytest.mark.parametrize("name", [name for name in ASKS if name != "generate"])
def test_reasoning_comes_before_text(name: str) -> None:
    """Thoughts are deltas of their own kind, at the same times everywhere, for those whose call asks to see them."""
    told = tell(name, temper=msgspec.structs.replace(TEMPER, reasoning=3))
    assert [event.kind for event in told.events if type(event) is Delta] == ["reasoning"] * 3 + ["text"] * 8
    assert told.times()[0] == pytest.approx(0.3)


@pytest.mark.parametrize("name", [name for name in ASKS if name != "generate"])
@pytest.mark.parametrize(("speech", "count"), [("tool", 1), ("tools", 2)])
def test_tool_calls(name: str, speech: str, count: int) -> None:
    """One call or two, their arguments in pieces where the dialect can, whole where it cannot; the finish says so."""
    told = tell(name, temper=msgspec.structs.replace(TEMPER, speech=speech, tokens=12))
    calls = told.whole.tools
    assert [call.name for call in calls] == ["measure_flow"] * count
    assert len({call.id for call in calls}) == count
    assert all(set(orjson.loads(call.arguments)) == {"place"} for call in calls)
    pieces = [event for event in told.events if type(event) is Delta]
    assert len(pieces) == (count if name in WHOLE_CALLS else 12 - count)
    assert [event.meaning for event in told.events if type(event) is Finished] == ["tools"]
    assert sum(step.tokens for step in told.steps if type(step) is Send) == 12


@pytest.mark.parametrize("name", ASKS)
def test_what_comes_first_is_no_token(name: str) -> None:
    """Whoever's stream has a beginning says it when the temper says, and nothing in it is output."""
    told = tell(name)
    early = [event for at, event in told.timed if at < 0.3]
    assert all(type(event) in {Started, Usage} for event in early)
    assert ("preamble" in parts(told.steps)) == (name not in {"gemini", "gemini-array", "ollama", "generate"})


@pytest.mark.parametrize("name", ASKS)
def test_empty_chunks_are_no_tokens(name: str) -> None:
    """Frames without text come before the first token and after each, and change neither times nor words."""
    told, plain = tell(name, fault_from("empty_chunks 4")), tell(name)
    assert (told.times(), told.whole.text) == (plain.times(), plain.whole.text)
    assert parts(told.steps).count("preamble") == parts(plain.steps).count("preamble") + 4
    assert parts(told.steps).count("body") == 8


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("after", [0, 3, 100])
def test_an_error_event_is_that_dialects(name: str, after: int) -> None:
    """What was said before it stands, the error can be read, and no proper end follows."""
    told = tell(name, ErrorEvent(after=after, message="Busy."))
    kinds = {"anthropic": "overloaded_error", "converse": "serviceUnavailableException", "invoke": "serviceUnavailableException"}
    kinds |= {"gemini": "UNAVAILABLE", "gemini-array": "UNAVAILABLE", "ollama": "upstream_error", "generate": "upstream_error"}
    failed = told.whole.failed
    assert failed == Failed(kinds.get(name, "server_error"), "Busy.")
    assert len(told.times()) == min(after, 8)
    assert not [event for event in told.events if type(event) is Finished]
    assert told.tail == b""


@pytest.mark.parametrize("name", ASKS)
def test_an_error_may_be_the_first_event(name: str) -> None:
    """With `first` nothing else is said, not even who speaks."""
    told = tell(name, fault_from("error_event first=true"))
    assert [type(event) for event in told.events if type(event) is not Terminated] == [Failed]
    assert len(parts(told.steps)) == 3


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("anthropic", "rate_limit_error"),
        ("gemini", "RESOURCE_EXHAUSTED"),
        ("converse", "throttlingException"),
        ("responses", "rate_limit_exceeded"),
    ],
)
def test_an_error_event_takes_the_providers_own_word(name: str, code: str) -> None:
    """A code that is given is said as it is."""
    failed = tell(name, ErrorEvent(code=code)).whole.failed
    assert failed is not None
    assert failed.code == code


def test_a_failed_response_does_not_repeat_what_never_came() -> None:
    """The step in whose place the error stands is in neither the numbers nor the output of `response.failed`."""
    told = tell("responses", ErrorEvent(after=3))
    frames = [orjson.loads(line[6:]) for line in told.payload.split(b"\n") if line.startswith(b"data: ")]
    assert [frame["sequence_number"] for frame in frames] == list(range(len(frames)))
    last = next(frame for frame in frames if frame["type"] == "response.failed")
    assert last["response"]["output"][0]["content"][0]["text"] == told.whole.text


@pytest.mark.parametrize("name", ASKS)
def test_missing_done(name: str) -> None:
    """Without its end marker a stream is not complete, unless its dialect does without one."""
    told, dialect = tell(name, fault_from("missing_done")), DIALECTS[asked(name).dialect]
    finish = [event.reason for event in told.events if type(event) is Finished]
    assert Terminated() not in told.events
    assert dialect.complete(False, finish) == (name in {"openai", "azure", "invoke"})
    assert told.whole.text == tell(name).whole.text


@pytest.mark.parametrize("name", ASKS)
def test_a_garbage_frame_is_no_json_and_breaks_nothing_else(name: str) -> None:
    """One frame cannot be read; the framing survives it, and so does every token."""
    call, steps = asked(name), plan(name, fault_from("garbage_frame 2"))
    parser, reader = DIALECTS[call.dialect].framing(call).parser(), DIALECTS[call.dialect].reader(call)
    broken, events = 0, list[Event]()
    for step in steps:
        for frame in parser.feed(step.data[step.data.index(b"\r\n") + 2 : -2]) if type(step) is Send and step.part != "head" else ():
            try:
                events += reader.events(frame) if frame.data else ()
            except msgspec.DecodeError:
                broken += 1
    assert (broken, fold(events).text) == (1, tell(name).whole.text)


@pytest.mark.parametrize("name", ASKS)
def test_pings_mean_nothing(name: str) -> None:
    """Whatever keeps a stream alive in its dialect, or silence where nothing does, leaves the events as they are."""
    told, plain = tell(name, fault_from("slow_first_token 1s ping_every=300ms")), tell(name)
    assert told.whole == plain.whole
    assert told.times()[0] == pytest.approx(1.3)
    keeps = DIALECTS[asked(name).dialect].framing(asked(name)).keepalive
    assert parts(told.steps).count("ping") == (3 if keeps else 0)


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("fault", ["truncate 3 5", "reset 3", "truncate 3 terminator=true"])
def test_a_cut_stream_has_its_first_tokens_only(name: str, fault: str) -> None:
    """Half an event is left unread, and what came before it is whole."""
    told = tell(name, fault_from(fault))
    assert len(told.times()) == 3
    assert not [event for event in told.events if type(event) in {Finished, Terminated}]


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("fault", ["stall 3 1s 5", "split_utf8", "burst 5 1s"])
def test_what_only_cuts_or_delays_says_the_same(name: str, fault: str) -> None:
    """However a stream is cut into writes, it is the same stream."""
    told = tell(name, fault_from(fault))
    assert (told.payload, told.whole) == (tell(name).payload, tell(name).whole)


@pytest.mark.parametrize("name", ASKS)
def test_never_ending_goes_on_in_good_frames(name: str) -> None:
    """Tokens without end, each of them a frame that can be read."""
    told = tell(name, fault_from("never_ending"), limit=300)
    assert len(told.times()) > 100
    assert not [event for event in told.events if type(event) is Finished]


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("after", [0, 3])
def test_a_huge_event_is_one_of_many(name: str, after: int) -> None:
    """One event of the size asked for, in the writes asked for; the stream comes to its proper end."""
    told = tell(name, fault_from(f"huge_event 50000 {after} 1000"))
    assert sum(step.part == "body" and len(step.data) > 900 for step in told.steps if type(step) is Send) >= 50
    assert told.tail == b""
    assert told.whole.text.count("x") > 49_000
    if name not in {"openai", "azure"}:  # there it is the next chunk, said twice and stretched
        assert told.whole.text.replace("x" * 50_000, "") == tell(name).whole.text


def test_a_huge_event_inside_a_chunk_is_whole() -> None:
    """What is larger than any parser of ours keeps is still said in full."""
    steps = plan("invoke", fault_from("huge_event 3MiB"))
    assert max(len(step.data) for step in steps if type(step) is Send) > 4 * 1024**2  # base64 adds a third


@pytest.mark.parametrize("name", ["openai", "azure"])
def test_filter_chunks_are_azures_own(name: str) -> None:
    """One on the prompt before everything, others on the text and after the finish, none of them a token."""
    told, plain = tell(name, fault_from("filter_chunks 4")), tell(name)
    frames = [orjson.loads(line[6:]) for line in told.payload.split(b"\n") if line.startswith(b"data: {")]
    assert (frames[0]["choices"], frames[0]["id"]) == ([], "")
    assert frames[0]["prompt_filter_results"]
    late = [frame["choices"][0] for frame in frames if frame["choices"] and "content_filter_offsets" in frame["choices"][0]]
    assert ["delta" in choice for choice in late] == [False] * 3
    assert late[-1]["content_filter_offsets"]["end_offset"] == len(told.whole.text)
    assert (told.times(), told.whole) == (plain.times(), plain.whole)


@pytest.mark.parametrize("name", ASKS)
@pytest.mark.parametrize("streamed", [True, False])
def test_every_fault_has_a_plan_in_every_dialect(name: str, streamed: bool) -> None:
    """Nothing a scenario can ask for is missing in a dialect, and it repeats."""
    for kind in FAULTS:
        fault = fault_from(f"{kind} 9000" if kind == "huge_event" else kind)
        steps = plan(name, fault, streamed=streamed, limit=500)
        assert steps == plan(name, fault, streamed=streamed, limit=500)
        assert steps


@pytest.mark.parametrize("name", ASKS)
def test_usage_is_refused_only_where_it_is_asked_for(name: str) -> None:
    """A server that does not know `stream_options` answers every call that has none."""
    [first, *_] = (step for step in plan(name, fault_from("refuse_usage")) if type(step) is Send)
    assert first.data.startswith(b"HTTP/1.1 400" if name == "openai" else b"HTTP/1.1 200")
    assert DIALECTS[asked(name).dialect].refuses_usage(400, first.data) == (name == "openai")


def test_geminis_chunks_all_count() -> None:
    """Each chunk counts what was said so far; the last one wins."""
    counts = [event.output for event in tell("gemini").events if type(event) is Usage]
    assert counts == [*range(1, 9), 8]


def test_anthropics_beginning() -> None:
    """The message begins with what its input counts, exclusive of the cache, and a ping follows."""
    first = [step for step in tell("anthropic").steps if type(step) is Send][1].data
    assert b"event: message_start" in first
    assert b"event: ping" in first
    [start] = (orjson.loads(line[6:]) for line in first.split(b"\n") if line.startswith(b'data: {"type":"message_start"'))
    call = asked("anthropic")
    usage = start["message"]["usage"]
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == len(call.body) // 4
    assert usage["output_tokens"] == 1


def test_ollamas_last_line_tells_times_and_generate_has_its_own_shape() -> None:
    """Durations stand on the line that is the end; `generate` says `response` where chat says a message."""
    chat, plain = ([orjson.loads(line) for line in tell(name).payload.split(b"\n") if line] for name in ("ollama", "generate"))
    assert chat[-1]["eval_duration"] > 0
    assert all("response" in line and "message" not in line for line in plain)
    assert (plain[-1]["done"], plain[-1]["context"]) == (True, [1, 2, 3])


def test_multibyte_text_stays_on_its_line() -> None:
    """What ends a line to Unicode is escaped where lines are events."""
    for name in ("ollama", "generate"):
        payload = tell(name, temper=msgspec.structs.replace(TEMPER, speech="multibyte", tokens=200)).payload
        assert "\u2028" not in payload.decode()
        assert all(orjson.loads(line) for line in payload.split(b"\n") if line)
