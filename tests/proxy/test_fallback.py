"""Another target, as long as the client has seen nothing: who answers, what is held until then, and what leaks (nothing)."""

import itertools
from typing import Any

import pytest

from gateway.sim.faults import ErrorEvent, InOrder, Refuse, ResetAfter, Silent, SlowFirstToken, Status, Truncate
from gateway.sim.steps import Reset
from gateway.sim.tempers import Temper
from tests.rig.rounds import judged_in_rounds

SOON = {"timeout": 0.3}
DONE = b"data: [DONE]\n\n"
PING = b": ping\n\n"
DOUBTFUL = (b": hi\n\n", b'data: {"id":"x","choices":[],"prompt_filter_results":[]}\n\n')
"""What comes before a token and is none: comments, Azure's filter results."""


def closed_by_gateway(provider: Any) -> bool:
    return bool(provider.requests) and provider.requests[0].closed_by == "peer"


@judged_in_rounds
async def test_a_target_that_only_pings_is_left(provide: Any, gate: Any, direct: Any, until: Any) -> None:
    """Comments and a role are no token: at the deadline the first is closed and the second answers, with no byte of the first (B2)."""
    first, second = await provide(SlowFirstToken(delay=30, ping_every=0.02)), await provide(seed=5)
    weir = await gate(first, second, first_token=SOON, usage="leave")
    client = await weir.fetch()
    record = await weir.record()
    assert client.body == (await direct(await provide(seed=5))).body
    assert (client.headers["x-weir-upstream"], client.headers["x-weir-attempts"]) == ("b", "2")
    assert client.pieces[0][0] - client.sent_at >= 0.29
    await until(lambda: closed_by_gateway(first))
    assert first.requests[0].closed_at - second.requests[0].at < 1.0
    slow, won = record.attempts
    assert (slow.outcome, slow.error, slow.why, won.outcome, won.why) == ("slow", "slow_first_token", "first", "won", "fallback")
    assert (record.fallback_reason, record.winner, record.outcome) == ("slow_first_token", 1, "completed")
    assert weir.plane.health.estimate(("a", "m"), weir.plane.clock()) >= 0.29  # a censored sample, not a lost one
    assert weir.targets()[0].last_error is None


@pytest.mark.parametrize("fault", [Silent(), SlowFirstToken(delay=30, role_first=False)], ids=["no headers", "headers only"])
@judged_in_rounds
async def test_a_silent_target_is_left(provide: Any, gate: Any, until: Any, fault: Any) -> None:
    """With headers or without, silence until the deadline moves the call on."""
    first, second = await provide(fault), await provide()
    weir = await gate(first, second, first_token=SOON)
    client = await weir.fetch()
    assert (client.status, client.headers["x-weir-upstream"]) == (200, "b")
    await until(lambda: closed_by_gateway(first))


@pytest.mark.parametrize(
    ("fault", "outcome", "error"),
    [
        (ErrorEvent(after=0, code="overloaded"), "error_event", "overloaded"),
        (ResetAfter(after=0), "truncated", "connection_reset"),
        (Truncate(after=0), "truncated", "connection_closed"),
        (Truncate(after=0, terminator=True), "truncated", "stream_truncated"),
        (Status(503), "status", "503"),
        (Status(500), "status", "500"),
        (Status(429, retry_after=20), "status", "429"),
        (Status(429), "status", "429"),
        (Refuse(), "truncated", "connection_closed"),
    ],
    ids=lambda value: getattr(value, "kind", ""),
)
async def test_a_target_that_fails_before_its_first_token(provide: Any, gate: Any, fault: Any, outcome: str, error: str) -> None:
    """An error event, a broken stream, 429 or 5xx before a token: the next target answers, no byte of the first is seen (A15b B3)."""
    first, second = await provide(fault), await provide(seed=5)
    weir = await gate(first, second)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.headers["x-weir-upstream"], client.headers["x-weir-attempts"]) == (200, "b", "2")
    assert client.body.startswith(b'data: {"id":"chatcmpl-sim')
    assert client.body.count(b'"role"') == 1
    assert [attempt.outcome for attempt in record.attempts] == [outcome, "won"]
    assert (record.attempts[0].error, record.fallback_reason, record.outcome) == (error, error, "completed")
    assert weir.targets()[0].last_error == error


async def test_a_refused_connection(provide: Any, gate: Any, unused_tcp_port: int) -> None:
    """Nobody listens at the first target: the second answers."""
    weir = await gate(f"http://127.0.0.1:{unused_tcp_port}/v1", await provide())
    client = await weir.fetch()
    record = await weir.record()
    assert (client.status, client.headers["x-weir-upstream"]) == (200, "b")
    assert [(a.outcome, a.error) for a in record.attempts] == [("connect_error", "connect_refused"), ("won", None)]


async def test_a_chain_of_fallbacks(provide: Any, gate: Any) -> None:
    """A and B fail, C answers: headers, record and model say who served, the model in the body is untouched (B12)."""
    failing = [await provide(Status(500)), await provide(ErrorEvent(after=0)), await provide()]
    targets = [{"upstream": name, "model": f"model-{name}", "priority": rank} for rank, name in enumerate("abc")]
    weir = await gate(*failing, targets=targets)
    client = await weir.fetch()
    record = await weir.record()
    assert (client.headers["x-weir-upstream"], client.headers["x-weir-attempts"], client.headers["x-weir-route"]) == ("c", "3", "chat")
    assert b'"model":"model-c"' in client.body
    assert (record.asked_model, record.served_model, record.upstream) == ("m", "model-c", "c")
    assert [(a.upstream, a.model, a.outcome) for a in record.attempts] == [
        ("a", "model-a", "status"), ("b", "model-b", "error_event"), ("c", "model-c", "won"),
    ]  # fmt: skip


async def test_the_preamble_comes_with_the_token(provide: Any, gate: Any, make: Any) -> None:
    """While another target could be chosen everything before the token is held, then goes out verbatim in one write (B3)."""
    preamble = [*DOUBTFUL, make.event()]
    first = await provide(
        make.chunked(*(part for piece in preamble for part in (piece, 0.05)), make.event("hi"), make.event(finish="stop"), DONE)
    )
    weir = await gate(first, await provide(), first_token={"timeout": 5})
    client = await weir.fetch()
    assert client.body == b"".join(preamble) + make.event("hi") + make.event(finish="stop") + DONE
    assert client.pieces[0][1].startswith(b"".join(preamble) + make.event("hi"))
    assert (await weir.record()).upstream == "a"


@judged_in_rounds
async def test_with_nobody_left_each_frame_goes_at_once(provide: Any, gate: Any, make: Any) -> None:
    """The last target's preamble is held for nothing: each frame reaches the client while the next is still to come (B3b)."""
    frames = [*DOUBTFUL, make.event(), make.event("hi")]
    weir = await gate(await provide(make.chunked(*(part for frame in frames for part in (frame, 0.1)), DONE)))
    client = await weir.fetch()
    times = [client.when(frame) for frame in frames]
    assert all(later - sooner > 0.05 for sooner, later in itertools.pairwise(times))
    assert [data for _, data in client.pieces[:3]] == frames[:3]


@judged_in_rounds
async def test_the_last_target_has_grace(provide: Any, gate: Any) -> None:
    """The first-token deadline is for moving on; with nobody to move on to it ends nothing."""
    weir = await gate(await provide(Silent()), await provide(temper=Temper(ttft="700ms", gap=0, tokens=2)), first_token=SOON)
    client = await weir.fetch()
    assert (client.status, client.body.endswith(DONE)) == (200, True)
    assert client.pieces[-1][0] - client.sent_at > 0.9


@judged_in_rounds
async def test_a_large_preamble_commits(provide: Any, gate: Any, make: Any) -> None:
    """At most 64 KiB or 64 reads are held: what says more than that has been chosen (B3b)."""
    first = await provide(make.chunked(b": " + b"x" * 70_000 + b"\n\n", 0.6, make.event("hi"), DONE))
    weir = await gate(first, await provide(), first_token=SOON)
    client = await weir.fetch()
    assert client.headers["x-weir-upstream"] == "a"
    assert client.body == b": " + b"x" * 70_000 + b"\n\n" + make.event("hi") + DONE


async def test_a_stream_that_has_spoken_never_falls_back(provide: Any, gate: Any, make: Any) -> None:
    """After a token two answers would be spliced: the client gets the tokens, then an error; the other target no call (B4)."""
    spoken = make.event() + make.event("a") + make.event("b")
    other = await provide()
    weir = await gate(await provide(make.chunked(spoken, 0.02, Reset())), other)
    client = await weir.fetch()
    assert client.body.startswith(spoken + b'data: {"error"')
    assert (other.total, (await weir.record()).outcome) == (0, "upstream_truncated")


async def test_a_caller_may_forbid_fallback(provide: Any, gate: Any) -> None:
    """`x-weir-no-fallback: true` makes the first choice the only one (B4)."""
    first, other = await provide(ErrorEvent(after=0)), await provide()
    weir = await gate(first, other)
    client = await weir.fetch({"x-weir-no-fallback": "True"})
    record = await weir.record()
    assert (other.total, len(record.attempts), record.fallback_reason) == (0, 1, None)
    assert b"error" in client.body


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_what_another_target_would_refuse_too(provide: Any, gate: Any, status: int) -> None:
    """A 4xx other than 429 is the answer, word for word, and no other target is asked; one of the caller's making is no failure (B6)."""
    first, other = await provide(Status(status, body='{"error":{"message":"Look  again"}}')), await provide()
    weir = await gate(first, other)
    client = await weir.fetch()
    assert (client.status, client.body, other.total) == (status, b'{"error":{"message":"Look  again"}}', 0)
    [state] = weir.targets()
    assert (state.last_error is None) == (status not in {401, 403})


async def test_a_route_says_what_is_tried_again(provide: Any, gate: Any) -> None:
    """What `retry.on` leaves out is final."""
    first, other = await provide(Status(503)), await provide()
    weir = await gate(first, other, retry={"on": ["connect", "slow_first_token"]})
    assert ((await weir.fetch()).status, other.total) == (503, 0)


async def test_documents_fall_back_too(provide: Any, gate: Any) -> None:
    """A whole answer moves on from an error as a stream does."""
    weir = await gate(await provide(Status(500)), await provide())
    client = await weir.fetch(stream=False)
    assert (client.status, client.headers["x-weir-upstream"]) == (200, "b")


@judged_in_rounds
async def test_a_document_may_take_its_time(provide: Any, gate: Any) -> None:
    """How long a whole answer may take is its client's business: the first-token deadline is for streams."""
    other = await provide()
    weir = await gate(await provide(temper=Temper(ttft="500ms", gap=0, tokens=2)), other, first_token={"timeout": 0.1})
    client = await weir.fetch(stream=False)
    assert (client.status, client.headers["x-weir-upstream"], other.total) == (200, "a", 0)


async def test_no_fallback_into_a_held_target(provide: Any, gate: Any) -> None:
    """A target that asked for time by Retry-After is left alone for that long (B10)."""
    first = await provide(InOrder([Status(429, retry_after=30)]))
    weir = await gate(first, await provide())
    for _ in range(4):
        assert (await weir.fetch()).headers["x-weir-upstream"] == "b"
    assert first.total == 1
