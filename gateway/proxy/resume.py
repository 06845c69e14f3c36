"""Carries one answer over one upstream or several: where a route resumes streams, another target goes on with what was delivered."""

import asyncio
import logging
from typing import Any

from msgspec import structs

from gateway.config import Target
from gateway.core.continuation import continued, unseen
from gateway.core.errors import GatewayError, Rejected
from gateway.core.record import Seam, StreamRecord
from gateway.dialects.base import Dialect
from gateway.logs import blunder
from gateway.proxy.attempts import Race
from gateway.proxy.errand import LARGE, Errand, Errands, translated
from gateway.proxy.plane import Live
from gateway.proxy.relay import Relay
from gateway.proxy.trial import Trial
from gateway.proxy.verdict import ATTEMPT_OUTCOMES, note, verdict
from gateway.routing.health import Key
from gateway.routing.policy import plan
from gateway.stream.delivered import Continuing, Telling, added

log = logging.getLogger("weir.proxy")
FIRSTS = ("status", "first_event_at", "first_token_at", "first_answer_at", "response_id", "served_model", "winner", "fallback_reason")
"""What a record says of the upstream that began the answer, whoever goes on with it."""


async def relayed(live: Live, trial: Trial, sent: int) -> tuple[Relay, GatewayError | None]:
    """Pass on the answer of the trial that spoke until it ends; return what the client must still be told. `sent` is bytes so far."""
    relay = Relay(live, trial, sent)
    if live.words is not None:
        live.words.choose(relay.reading.transcript)
    try:
        relay.begin()
        if (withheld := relay.reading.withheld) is not None:
            relay.kill(withheld)
        await relay.finished()
    finally:
        relay.close()
        failure = verdict(live, trial, relay)
        note(live, trial, relay)
    return relay, failure


class Continuations(Errands):
    """What each target is asked when it is to go on with an answer: always said anew, by the one writer that knows what was said."""

    def __init__(self, live: Live, telling: Telling, spent: int | None) -> None:
        super().__init__(live)
        self._telling, self._spent, self._told = telling, spent, telling.delivered.text

    def _foreign(self, target: Target) -> bool:  # noqa: ARG002 - even its own kind is asked another thing than the client did
        return True

    def _translated(self, target: Target, dialect: Dialect) -> Errand:
        prefills = dialect.prefills(structs.replace(self._live.prompt(), model=target.model or self._live.call.model))
        errand = translated(self._live, target, dialect, lambda prompt: continued(prompt, self._told, prefills, self._spent))
        return structs.replace(errand, voice=Continuing(self._telling, unseen(self._told, prefills)))


class Legs:
    """The upstreams of one answer, one after the other. The client sees one message; the record says where the seams are."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._failed: list[Key] = []
        self._stopped: GatewayError | None = None

    async def relay(self, trial: Trial, sent: int) -> tuple[Relay, GatewayError | None]:
        """Pass an answer on until it has ended, whoever ends it; as `relayed`."""
        record = self._live.record
        relay, failure = await relayed(self._live, trial, sent)
        while self._may_go_on(trial, relay):
            before = kept(record)
            following = await self._following(trial, relay)
            if following is None:
                break
            try:
                relay, failure = await relayed(self._live, following, 0)
            finally:
                following.close()
                join(record, before)
            trial = following
        if self._stopped is not None:
            failure = self._stopped
            record.outcome, record.error = failure.outcome, failure.code
        elif failure is None:
            relay.tail += (released := relay.reading.released())
            record.bytes += len(released)
        return relay, failure

    def _may_go_on(self, trial: Trial, relay: Relay) -> bool:
        """Is it the upstream's failure, of an answer that somebody else could go on with, and is somebody left?"""
        live, reading = self._live, relay.reading
        if live.record.outcome not in ATTEMPT_OUTCOMES or trial.failure is not None or live.reply.gone or reading.inside:
            return False
        if reading.telling is None or not reading.telling.resumable:
            return False
        return live.stopped is None and not live.plane.stopping and len(live.record.attempts) < live.route.retry.attempts

    async def _following(self, trial: Trial, relay: Relay) -> Trial | None:
        """Find a target that goes on. None when there is none: then it is told what the upstream has failed with."""
        live, record, telling = self._live, self._live.record, relay.reading.telling
        assert telling is not None
        trial.close()
        live.own("gateway", live.plane.clock())
        live.reply.write(relay.tail)
        relay.tail = b""
        live.heard(live.plane.clock())
        self._failed.append(trial.key)
        failed = record.outcome, record.error
        spent = added(telling.spent, relay.reading.observer.usage)
        chunks, characters = telling.meter.chunks, telling.delivered.characters
        telling.meter.reopen()
        record.outcome, record.error = "gateway_error", None
        try:
            following = await self._asked(telling, spent.output if spent else None)
        except asyncio.CancelledError:
            if live.stopped is None:
                raise
            self._stopped, following = live.stopped, None
        except GatewayError:
            following = None  # what became of each attempt, the record says
        except Exception as error:  # noqa: BLE001  whatever it is, the stream ends as it had failed
            log.error("stream %s broke what was to resume it: %s", record.stream_id, blunder(error))
            following = None
        if following is None:
            record.outcome, record.error = failed
            return None
        telling.spent = spent
        source, target = trial.attempt, following.attempt
        seam = Seam(
            at=relay.ended_at or live.plane.clock(),
            chunks=chunks,
            characters=characters,
            source=source.upstream,
            target=target.upstream,
            why=source.error or source.outcome,
        )
        self._mark(seam, following)
        return following

    async def _asked(self, telling: Telling, spent: int | None) -> Trial | None:
        """Ask the targets that are left, in the route's order; who has failed this stream comes last."""
        live, record, now = self._live, self._live.record, self._live.plane.clock()
        order = self._order(now)
        if not order or not await self._sayable() or not live.setup.retries[live.route.name].allow(now):
            return None
        reason = record.fallback_reason
        try:
            return await Race(live, order, Continuations(live, telling, spent), "resume").winner()
        finally:
            record.fallback_reason = reason

    async def _sayable(self) -> bool:
        """Can the call be said anew? An answer of a given shape would be begun again by whoever is held to it."""
        live = self._live
        try:
            prompt = await asyncio.to_thread(live.prompt) if len(live.call.body) > LARGE else live.prompt()
        except Rejected:
            return False
        except Exception as error:  # noqa: BLE001  whatever a reader stumbles over, the stream ends as it would have
            log.error("stream %s: the gateway failed to read this call (%s)", live.record.stream_id, type(error).__name__)
            return False
        return prompt.shape is None

    def _order(self, now: float) -> list[Target]:
        live, plane = self._live, self._live.plane
        keys = {id(target): (target.upstream, target.model or live.call.model) for target in live.route.targets}
        order = plan(live.route, live.call.model, live.health, now, plane.dice)
        usable = [target for target in order if live.health.usable(keys[id(target)], now)]
        return sorted(usable, key=lambda target: keys[id(target)] in self._failed)

    def _mark(self, seam: Seam, following: Trial) -> None:
        """Say where the seam is: to the client, where its framing has words that mean nothing, and in the record."""
        live = self._live
        if live.framing.takes_lines:
            live.reply.write(b": weir resumed on %b\n\n" % seam.target.encode())
        live.count("resumed")
        for _ in following.errand.dropped:
            live.count("member_dropped")
        live.record.seams.append(seam)


def kept(record: StreamRecord) -> dict[str, Any]:
    """Return what a record holds of the legs so far, before that of the next is noted."""
    return {name: getattr(record, name) for name in (*FIRSTS, "bytes", "usage")}


def join(record: StreamRecord, before: dict[str, Any]) -> None:
    """Make one account of the legs so far and of the one that has been noted: the first names and begins it, both count."""
    for name in FIRSTS:
        setattr(record, name, before[name])
    record.bytes += before["bytes"]
    record.usage = added(before["usage"], record.usage)
