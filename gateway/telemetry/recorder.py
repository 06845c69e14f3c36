"""The recorder: receives what every worker says and tells every audience of each stream's one account."""

import asyncio
import socket
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from opentelemetry.sdk.trace.export import SpanExporter

from gateway.config import Config
from gateway.config.model import Store as StoreConfig
from gateway.core.messages import Begun, Ended, Feedback, FromWorker, Heard, Hello, Moved, Pulse, Rejoined, Said, Spoke, Stalled, Watching
from gateway.core.owners import Blame
from gateway.core.record import StreamRecord
from gateway.logs import blunder
from gateway.telemetry.accesslog import AccessLog
from gateway.telemetry.account import Account, account
from gateway.telemetry.batches import Complaints
from gateway.telemetry.contents import Contents
from gateway.telemetry.cost import Prices
from gateway.telemetry.export import MetricPump, SpanPump, metric_exporter
from gateway.telemetry.export import span_exporter as configured_exporter
from gateway.telemetry.feed import Feed
from gateway.telemetry.feedback import Feedbacks
from gateway.telemetry.gauges import Gauges
from gateway.telemetry.instruments import bounds
from gateway.telemetry.labels import Labels
from gateway.telemetry.lately import Lately
from gateway.telemetry.link import KINDS as FROM_WORKERS
from gateway.telemetry.live import Live, LiveStream
from gateway.telemetry.metrics import Family, Metrics
from gateway.telemetry.onlookers import Onlooker, Onlookers
from gateway.telemetry.overview import Overview
from gateway.telemetry.readers import Readers
from gateway.telemetry.sampling import Sampler
from gateway.telemetry.store import Receipt, Store
from gateway.telemetry.tally import Tally

REMEMBERED = 50_000
"""Ids of ended streams, so that one told again is not counted again: more than two workers may hold unacknowledged."""
PUSH_EVERY = 15.0
RESYNC_EVERY = 60.0
CLOSING = 3.0
LEFT_UNREAD = 1.0
"""Seconds that reading what a process has left behind may take."""
TAKEN_ON_WITHIN = 5.0
KINDS = (*FROM_WORKERS.values(), "packet", "message", "live", "series", "span", "push", "row", "line")
"""What can be lost: messages by kind (feedback also for want of a stream that it is about), a packet nobody can read, a message nobody
can handle, a live stream too many, a label too many, a span, a metric push, a row of the store, a line of the access log."""


class Recorder:
    """One for all workers. Works the same in a process of its own (`connect` a socket per slot) and in-process (`receive`).

    `span_exporter` replaces the configured OTLP exporter. `live`, `metrics`, `overview`, `lately` and `store` (None when its path is
    "off") may be read. Every one of `onlookers` hears of what goes on, as it is told, and `readers` of what one stream says.
    """

    def __init__(self, config: Config, *, span_exporter: SpanExporter | None = None) -> None:
        telemetry = config.telemetry
        self.config = config
        self.live = Live()
        self.labels = Labels(config)
        self.metrics = Metrics(bounds(config))
        self.overview = Overview(time.monotonic())
        self.onlookers = Onlookers(self._tell_watching)
        self.lately = Lately()
        self.reload_error: str | None = None
        self.configured_at = time.monotonic()
        self._told: dict[str, None] = {}
        self._tally = Tally(self.metrics, self.labels)
        self.feedback = Feedbacks(self, self._told, self._tally.judged)
        self.store = self._make_store(telemetry.store) if telemetry.store.path != "off" else None
        self._gauges = Gauges(self.live, self.labels, config, self.store)
        self._objectives = {route.name: route.slo.ttft for route in config.routes}
        self._prices = Prices()
        self._sampler = Sampler(telemetry.sampling)
        self._log = AccessLog(telemetry.access_log) if telemetry.access_log != "off" else None
        self._spans = _span_pump(config, span_exporter)
        self._pushes = _metric_pump(config)
        self._feeds: dict[int, Feed] = {}
        self.readers = Readers(self.live, self._feeds)
        self._contents = Contents(self.store.keep if self.store is not None else lambda _: True, self.lose)
        self._lags: dict[int, float] = {}
        self._resynced: dict[int, float] = {}
        self._lost: dict[str, int] = {}
        self._complaints = Complaints()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self._handlers: dict[type, Callable[[Any, int], None]] = {
            Hello: self._hello,
            Begun: self._begun,
            Moved: self._moved,
            Stalled: self._stalled,
            Heard: self._heard,
            Rejoined: self._rejoined,
            Feedback: self.feedback.heard,
            Said: self._contents.said,
            Spoke: self.readers.spoke,
            Ended: self._ended,
            Pulse: self._pulse,
        }

    @property
    def config_hash(self) -> str:
        return self._gauges.config_hash

    async def start(self) -> None:
        """Start every audience; returns when streams can be told without holding the loop up."""
        self._loop = asyncio.get_running_loop()
        await asyncio.to_thread(self._prices.load)
        if self.store is not None:
            await asyncio.to_thread(self.store.prepare)
            self._told.update(dict.fromkeys(reversed(await asyncio.to_thread(self.store.newest_ids, REMEMBERED // 2))))
            self.store.start()
        for audience in (self._log, self._spans, self._pushes):
            if audience is not None:
                audience.batches.start()
        if self._pushes is not None:
            self._timer = self._loop.call_later(PUSH_EVERY, self._push)

    def connect(self, sock: socket.socket, slot: int) -> Feed:
        """Begin to read a worker slot's socket; the socket stays its opener's to close."""
        feed = self._feeds[slot] = Feed(sock, slot, self.receive, self.lose)
        feed.start()
        return feed

    async def close(self) -> None:
        """Tell what waits to be told, for a few seconds at most, and count the rest as lost; twice is once."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self.feedback.close()
        self._push_once()
        audiences = [audience for audience in (self.store, self._log, self._spans, self._pushes) if audience is not None]
        await asyncio.gather(*(asyncio.to_thread(audience.close, CLOSING) for audience in audiences))
        await asyncio.sleep(0)  # acknowledgements handed over by the store's thread
        for feed in self._feeds.values():
            feed.close()

    def watch(self, onlooker: Onlooker) -> None:
        """Let somebody hear of what goes on from now on."""
        self.onlookers.add(onlooker, len(self.live.streams))

    def unwatch(self, onlooker: Onlooker) -> None:
        self.onlookers.discard(onlooker)

    def _tell_watching(self, watching: Watching) -> None:
        for feed in self._feeds.values():
            feed.watching(watching)

    def receive(self, message: FromWorker, slot: int = 0) -> None:
        """Take one message of a slot's worker; never raises."""
        try:
            self._handlers[type(message)](message, slot)
        except Exception as error:  # noqa: BLE001 - one odd message must not end the telling of all others; it is counted
            self.lose("message", 1)
            self._complaints.say("telemetry: a %s could not be handled: %s", type(message).__name__, blunder(error))

    def lose(self, kind: str, count: int) -> None:
        """Count something lost, under one of KINDS."""
        self._lost[kind] = self._lost.get(kind, 0) + count

    def dropped(self) -> dict[str, int]:
        """Return everything lost so far, by kind; all of KINDS are there."""
        lost = {kind: self._lost.get(kind, 0) for kind in KINDS}
        queues = {"row": self.store, "line": self._log, "span": self._spans, "push": self._pushes}
        for kind, audience in queues.items():
            lost[kind] += audience.batches.dropped if audience is not None else 0
        lost["series"] += self.metrics.refused
        return lost

    def collect(self) -> list[Family]:
        """Return every metric as it is now, safe to read in another thread."""
        return self.metrics.collect(self._gauges.read(time.monotonic()), self.dropped())

    def lag(self) -> float:
        """Return how many seconds old the heartbeats are when they are read, the worst over workers."""
        return max((self._lags.get(worker.slot, 0.0) for worker in self.live.present(time.monotonic())), default=0.0)

    def configure(self, config: Config) -> None:
        """Take on another configuration. No counter is lost; what is no longer configured has no gauges any more."""
        self.config, self.configured_at = config, time.monotonic()
        self.labels.configure(config)
        self.metrics.rebound(bounds(config))
        self._gauges.configure(config)
        self._tally.configure()
        self._objectives = {route.name: route.slo.ttft for route in config.routes}
        self._sampler = Sampler(config.telemetry.sampling)
        if self._spans is not None:
            self._spans.map(config.telemetry.mappers)

    def vacate(self, slot: int, pid: int) -> None:
        """Note that a worker has left for good and will be followed by nobody in its slot; what it has said is heard before."""
        if feed := self._feeds.get(slot):
            feed.drain(LEFT_UNREAD)
        last_said = self.live.last_said(slot)
        for orphan in self.live.vacate(slot, pid):
            self._tell(_died(orphan, last_said), orphan.announced, None)

    def abort(self, stream_id: str) -> bool:
        """Ask the worker of a live stream to end it; False when there is no such stream, or no worker to ask."""
        stream = self.live.streams.get(stream_id)
        feed = self._feeds.get(stream.slot) if stream is not None else None
        if feed is None:
            return False
        feed.abort(stream_id)
        return True

    def lagging(self, now: float) -> bool:
        """Return whether a worker still carries new calls by another configuration, though it has had time to take this one on."""
        if now - self.configured_at < TAKEN_ON_WITHIN:
            return False
        hashes = {worker.pulse.config for worker in self.live.present(now) if worker.pulse is not None}
        return not hashes <= {self.config_hash, ""}

    def reload_failed(self, error: str) -> None:
        """Note that a new config was refused."""
        self.reload_error = error
        self.metrics.count("weir_reload_failed_total", ())

    def price(self, record: StreamRecord) -> Account:
        """Return the account of a record, its cost and its route's objective included."""
        return self._sampler.decide(account(record, self._prices.of(record), self.objective(record.route)))

    def was_told(self, stream_id: str) -> bool:
        """Return whether a stream's end has been told of late."""
        return stream_id in self._told

    def objective(self, route: str) -> float | None:
        """Return a route's TTFT objective in seconds."""
        return self._objectives.get(route)

    # What each message does.

    def _hello(self, message: Hello, slot: int) -> None:
        last_said = self.live.last_said(slot)
        for orphan in self.live.hello(slot, message.pid, time.monotonic()):
            self._tell(_died(orphan, last_said), orphan.announced, None)
        if slot in self._feeds:  # also when nobody looks on: a recorder before this one may have died with somebody who did
            self._feeds[slot].watching(self.onlookers.watching)

    def _heard(self, message: Heard, slot: int) -> None:  # noqa: ARG002 - the shape of every handler
        for onlooker in self.onlookers:
            onlooker.heard(message.stream_id, message.times, message.many, message.answer)

    def _begun(self, message: Begun, slot: int) -> None:
        self.live.heard(slot, message.record.received_at, time.monotonic())
        if message.record.stream_id in self._told:
            return
        if self.live.begun(slot, message.record, message.state) is not None:
            self.lose("live", 1)
        for onlooker in self.onlookers:
            onlooker.begun(self.live.streams[message.record.stream_id])

    def _moved(self, message: Moved, slot: int) -> None:
        self.live.heard(slot, message.at, time.monotonic())
        if (stream := self.live.moved(message)) is not None:
            for onlooker in self.onlookers:
                onlooker.moved(stream)

    def _stalled(self, message: Stalled, slot: int) -> None:
        self.live.heard(slot, message.at, time.monotonic())
        stream = self.live.stalled(message)
        if stream is None:
            return  # its end will tell of the stall
        for onlooker in self.onlookers:
            onlooker.stalled(stream)
        self._tally.stalled(stream.record, stream.upstream, message.blame, message.phase)
        if message.phase in ("streaming", "draining"):  # only silences between tokens are among the record's stalls
            stream.announced[message.blame] = stream.announced.get(message.blame, 0) + 1

    def _rejoined(self, message: Rejoined, _: int) -> None:
        self._tally.rejoined(message.route)

    def _ended(self, message: Ended, slot: int) -> None:
        record = message.record
        worker = self.live.workers.get(slot)
        receipt = Receipt(slot, worker.pid, message.seq) if worker is not None else None
        self.live.heard(slot, record.ended_at or record.received_at, time.monotonic())
        stream = self.live.ended(record.stream_id)
        if record.stream_id not in self._told:
            self._tell(record, stream.announced if stream else {}, receipt)
        elif receipt is not None:
            self._receipt_through(None, receipt)

    def _pulse(self, message: Pulse, slot: int) -> None:
        now = time.monotonic()
        known = self.live.workers.get(slot)
        if known is not None and known.pid != message.pid:
            self._hello(Hello(message.pid), slot)
        self._lags[slot] = max(0.0, now - message.at)
        lost = self.live.pulse(slot, message, now)
        self.onlookers.draw(len(self.live.streams))
        for kind, count in lost.items():
            self.lose(kind, count)
        if lost.get("ended") and now - self._resynced.get(slot, -RESYNC_EVERY) >= RESYNC_EVERY and slot in self._feeds:
            self._resynced[slot] = now
            self._feeds[slot].greet()  # some live streams are ghosts now; the worker's answer tells which

    # Telling.

    def _tell(self, record: StreamRecord, announced: dict[Blame, int], receipt: Receipt | None) -> None:
        self._told[record.stream_id] = None
        if len(self._told) > REMEMBERED:
            del self._told[next(iter(self._told))]
        told = self.price(record)
        self._receipt_through(told, receipt)
        self.feedback.ended(told)
        self._tally.add(told, announced)
        self.overview.add(told, time.monotonic())
        self.lately.add(told, time.monotonic())
        self.readers.ended(record.stream_id)
        for onlooker in self.onlookers:
            onlooker.ended(told)
        if self._log is not None:
            self._log.batches.put(told)
        if self._spans is not None and told.kept is not None:
            self._spans.batches.put(told)

    def _receipt_through(self, told: Account | None, receipt: Receipt | None) -> None:
        """Acknowledge when the store has committed what came before and this; a row it refuses is acknowledged by a later one."""
        if self.store is not None:
            self.store.put(told, receipt)
        elif receipt is not None:
            self._acknowledge([receipt])

    def _make_store(self, wanted: StoreConfig) -> Store:
        done, answered = partial(self._in_loop, self._acknowledge), partial(self._in_loop, self.feedback.answered)
        return Store(wanted.path, wanted.retention, done, max_size=wanted.max_size, keeps=self.feedback.keeps, answered=answered)

    def _in_loop(self, hear: Callable[[Any], None], news: Any) -> None:
        """In the store's thread: rows are committed, or lost and counted; or it is known what became of feedback."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed already: nobody is left to be told
                self._loop.call_soon_threadsafe(hear, news)

    def _acknowledge(self, receipts: Iterable[Receipt]) -> None:
        for receipt in receipts:
            if feed := self._feeds.get(receipt.slot):
                feed.ack(receipt.pid, receipt.seq)

    def _push(self) -> None:
        self._push_once()
        if self._loop is not None:
            self._timer = self._loop.call_later(PUSH_EVERY, self._push)

    def _push_once(self) -> None:
        if self._pushes is not None:
            self._pushes.put(self.collect(), _wall_ns())


def _died(orphan: LiveStream, last_said: float | None) -> StreamRecord:
    """Close the record of a stream whose worker died. Who owned its moments since it began went with the worker: that is left out."""
    record = orphan.record
    record.outcome, record.error, record.seconds, record.content = "gateway_error", "worker_died", {}, False
    record.ended_at = max(record.received_at, last_said or record.received_at)
    for attempt in record.attempts:
        if attempt.ended_at is None:
            attempt.ended_at = max(attempt.dialed_at, record.ended_at)
    return record


def _span_pump(config: Config, exporter: SpanExporter | None) -> SpanPump | None:
    otlp = config.telemetry.otlp
    if exporter is None and not otlp.endpoint:
        return None
    pump = SpanPump(lambda: exporter or configured_exporter(otlp))
    pump.map(config.telemetry.mappers)
    return pump


def _metric_pump(config: Config) -> MetricPump | None:
    otlp = config.telemetry.otlp
    return MetricPump(lambda: metric_exporter(otlp), _wall_ns()) if otlp.endpoint and otlp.metrics else None


def _wall_ns() -> int:
    return time.time_ns()
