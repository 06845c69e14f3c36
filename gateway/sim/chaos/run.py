"""One run of chaos from start to end: everything started, set upon, calmed, ended and audited."""

import asyncio
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import uvloop
from msgspec import Struct

from gateway import __version__
from gateway.sim import children
from gateway.sim.bench import StartError, many_files, terminate_as_interrupt
from gateway.sim.chaos import town
from gateway.sim.chaos.audit import Books, audit
from gateway.sim.chaos.collector import Collector
from gateway.sim.chaos.crowd import Crowd
from gateway.sim.chaos.ledger import Ledger
from gateway.sim.chaos.mayhem import Admin, Deeds, Mayhem, Scrape
from gateway.sim.chaos.report import ChaosReport
from gateway.telemetry.query import Query
from gateway.telemetry.store import Store

__all__ = ["ChaosOptions", "StartError", "run"]

Say = Callable[[str], None]
TROUBLE = ("Traceback", "never retrieved", "Failed to detach", "was destroyed but", "Unclosed", "broke the gateway")
PATIENCE = 20.0
CALM = 30.0
"""Seconds in which everything must have come to rest after the last client has left."""


class ChaosOptions(Struct, frozen=True, kw_only=True):
    """How long, how many at once, how many workers; the seed draws everything that is drawn."""

    minutes: float = 3.0
    streams: int = 500
    workers: int = 2
    seed: int = 1


def run(options: ChaosOptions, say: Say = lambda _: None, folder: Path | None = None) -> ChaosReport:
    """Run and report; `say` is told what goes on. Raises StartError. With `folder` the files of the run stay there.

    Everything it started has ended when it returns or raises.
    """
    with terminate_as_interrupt(), many_files(), tempfile.TemporaryDirectory(prefix="weir-chaos-") as made:
        place = folder or Path(made)
        place.mkdir(parents=True, exist_ok=True)
        if (place / "weir.db").exists():
            raise StartError(f"{place} holds the store of another run: its streams would be taken for this one's")
        return uvloop.run(Chaos(options, place.absolute(), say).run())


class Chaos:
    """One run; `run` may be called once."""

    def __init__(self, options: ChaosOptions, folder: Path, say: Say) -> None:
        self._options, self._folder, self._say = options, folder, say
        self._ledger = Ledger()
        self._houses = town.providers(self._ledger, options.seed)
        self._collector = Collector()
        self._ports: dict[str, int] = {}
        self._trouble: list[str] = []

    async def run(self) -> ChaosReport:
        began = time.monotonic()
        try:
            await self._collector.start()
            for house in self._houses:
                await house.start()
            data, admin = children.free_ports(2)
            self._ports = {"data": data, "admin": admin, "collector": self._collector.port}
            crowd = Crowd(data, self._ledger, town.models(), self._options.streams, self._options.seed)
            deeds, last = await self._gateway(crowd)
            self._say("comparing the books")
            return await asyncio.to_thread(self._report, crowd, deeds, last, time.monotonic() - began)
        finally:
            for house in self._houses:
                await house.close()
            await self._collector.close()

    async def _gateway(self, crowd: Crowd) -> tuple[Deeds, Scrape]:
        """Start the gateway, let it all loose, wait for calm, and end it."""
        path = self._folder / "weir.log"
        command = [sys.executable, "-W", "ignore", "-m", "gateway", "serve", "-c", str(self._write(0, True)), "--log-format", "json"]
        with path.open("wb") as log:
            weir = children.start(command, log)
        admin = Admin(weir.pid, f"http://127.0.0.1:{self._ports['admin']}")
        try:
            await asyncio.to_thread(children.wait_listening, weir, self._ports["data"], path)
            deeds = await self._storm(admin, crowd)
            last = await self._calm(admin)
        finally:
            await admin.close()
            await asyncio.to_thread(children.stop, weir, PATIENCE)
        if weir.returncode:
            self._trouble.append(f"weir left with {weir.returncode}")
        self._trouble += [line for line in path.read_text().splitlines() if any(word in line for word in TROUBLE)]
        return deeds, last

    async def _storm(self, admin: Admin, crowd: Crowd) -> Deeds:
        """Clients and mayhem for as long as was asked for; then the clients finish in peace."""
        seconds = self._options.minutes * 60
        mayhem = Mayhem(admin, self._write, seconds, self._options.seed)
        async with asyncio.TaskGroup() as group:
            clients, deeds = group.create_task(crowd.run()), group.create_task(mayhem.run())
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                self._say(f"{left:4.0f} s left, {crowd.open} streams open, {len(crowd.seen)} over, {len(mayhem.deeds.kills)} kills")
                await asyncio.sleep(min(left, 5.0))
            deeds.cancel()
            crowd.stop()
            self._say("the clients finish")
            await clients
        return mayhem.deeds

    async def _calm(self, admin: Admin) -> Scrape:
        """Wait until nothing is under way anywhere, and all of it is told; return the last scrape. Unrest is trouble."""
        deadline, told, restless = time.monotonic() + CALM, (-1, -1), "the gateway does not answer"
        while time.monotonic() < deadline:
            await asyncio.sleep(1.5)
            health, before, told = await admin.health(), told, (self._stored(), len(self._collector.spans))
            answering = sum(house.open_streams for house in self._houses)
            live = health.get("streams", -1), sum(worker["streams"] for worker in health.get("workers", ()))
            restless = f"live streams {live}, answers still given {answering}, (rows, spans) {before} then {told}"
            if live == (0, 0) and not answering and before == told and (scrape := await admin.scrape()) is not None:
                self._lost_by_telemetry(health["dropped"])
                return scrape
        self._trouble.append(f"not calm after {CALM:.0f} s: {restless}")
        return Scrape(time.monotonic(), {})

    def _lost_by_telemetry(self, dropped: dict[str, int]) -> None:
        if lost := {kind: count for kind, count in dropped.items() if count}:
            self._trouble.append(f"telemetry dropped {lost}")

    def _store(self) -> Store:
        return Store(str(self._folder / "weir.db"), 1e9, lambda _: None)

    def _stored(self) -> int:
        return len(self._store().newest_ids(10_000_000))

    def _write(self, edition: int, sound: bool) -> Path:
        """Put a configuration in place, at once and whole."""
        text = town.config(self._houses, self._ports, str(self._folder), self._options.workers, edition)
        path, draft = self._folder / "routes.yaml", self._folder / "routes.new"
        draft.write_bytes(text if sound else town.broken(text, edition // 4))
        draft.replace(path)
        return path

    def _report(self, crowd: Crowd, deeds: Deeds, last: Scrape, seconds: float) -> ChaosReport:
        (self._folder / "clients.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, crowd.seen)))
        records = [kept.record for kept in self._store().find(Query(limit=10_000_000))]
        books = Books(seen=crowd.seen, ledger=self._ledger, records=records, spans=self._collector.spans, deeds=deeds, last=last)
        by_tag = {record.tags.get("chaos", ""): record for record in records}
        recorded: dict[str, Counter[str]] = {}
        for seen in crowd.seen:
            record = by_tag.get(seen.tag)
            said = "no record" if record is None else f"{record.outcome} {record.error or ''}".strip()
            recorded.setdefault(seen.verdict, Counter())[said] += 1
        faults = Counter(answer.request.fault for answers in self._ledger.answers.values() for answer in answers)
        return ChaosReport(
            version=__version__,
            options={"minutes": self._options.minutes, "streams": self._options.streams, "seed": self._options.seed},
            seconds=seconds,
            streams=len(crowd.seen),
            verdicts=dict(Counter(seen.verdict for seen in crowd.seen)),
            matches=dict(Counter(f"{seen.verdict}: {seen.match or 'nothing to compare'}" for seen in crowd.seen)),
            recorded={verdict: dict(counts) for verdict, counts in recorded.items()},
            faults=dict(faults),
            deeds=_told(deeds),
            kills=deeds.kills,
            refused_connections=crowd.refused,
            stale_connections=crowd.stale,
            audit=audit(books),
            trouble=self._trouble,
        )


def _told(deeds: Deeds) -> dict[str, int]:
    return {
        "workers killed": len(deeds.of("worker")),
        "recorders killed": len(deeds.of("recorder")),
        "reloads asked for": deeds.reloads,
        "reloads that /healthz confirmed": deeds.confirmed,
        "broken reloads": deeds.broken,
        "broken reloads that /healthz told of": deeds.refused,
        "workers replaced gracefully": deeds.replacements,
    }
