"""A story of fewer spans: failures are all told, the rest is not, everything is counted, and a changed file changes that."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson

from gateway.sim.faults import InOrder, Truncate

Fixture = Callable[..., Any]


def keep_all(file: Path) -> None:
    """Write the configuration anew, without sampling."""
    config = orjson.loads(file.read_bytes())
    del config["telemetry"]["sampling"]
    file.write_bytes(orjson.dumps(config))


async def test_failures_are_told_and_the_rest_is_counted(
    weir: Fixture, provide: Fixture, client: Fixture, collector: Any, eventually: Fixture
) -> None:
    """Of twenty streams the four that broke have a span, all are counted and stored; after a reload every further one has a span."""
    provider = await provide(faults=InOrder([Truncate(after=2)] * 4))
    telemetry = {"otlp": {"endpoint": collector.url}, "sampling": {"baseline": "0%", "always": ["error"]}}
    gateway = await weir({"sim": provider}, route={"retry": {"attempts": 1}, "breaker": {"failures": 99}}, telemetry=telemetry)
    mine = client(gateway)
    for _ in range(20):
        await mine.ask()
    rows = await gateway.told(20)
    broken = {row["trace_id"] for row in rows if row["outcome"] == "upstream_truncated"}
    assert len(broken) == 4
    assert (await gateway.scrape()).sum("weir_streams_total") == 20
    await eventually(lambda: len(collector.spans) >= 4, "the four have arrived")
    assert {span.trace_id.hex() for span in collector.spans} == broken
    assert {collector.attributes(span)["weir.sampling.reason"] for span in collector.spans} == {"error"}
    assert {span.trace_state for span in collector.spans} == {"ot=th:0"}

    keep_all(Path(f"/proc/{gateway.pid}/cwd/routes.yaml"))
    async with httpx.AsyncClient(base_url=gateway.admin_url, timeout=10, trust_env=False) as http:
        answer = await http.post("/api/reload", headers={"Content-Type": "application/json"})
    assert answer.status_code == 200, answer.text
    answers = [await mine.ask() for _ in range(3)]
    await eventually(lambda: len(collector.spans) >= 7, "three more")
    told = {collector.attributes(span)["weir.stream.id"] for span in collector.spans[4:]}
    assert told == {answer.headers["x-weir-stream-id"] for answer in answers}
    assert not [span for span in collector.spans[4:] if "weir.sampling.reason" in collector.attributes(span) or span.trace_state]
