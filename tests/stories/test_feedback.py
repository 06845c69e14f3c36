"""The story of an answer that somebody disliked: what was said of the call is everywhere, what was said of the answer is beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from gateway.sim.faults import Always
from tests.rig.held import Held
from tests.stories.conftest import PATIENCE

Fixture = Callable[..., Any]
NAMED = {
    "x-weir-prompt-name": "greet",
    "x-weir-prompt-version": "7",
    "x-weir-session-id": "s-1",
    "x-weir-tag-env": "prod",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}


async def say(gateway: Any, **members: Any) -> httpx.Response:
    """Give feedback on a connection of its own: which worker has it is left to the kernel."""
    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=PATIENCE) as http:
        return await http.post("/v1/feedback", json=members)


async def test_a_disliked_answer(weir: Fixture, provide: Fixture, collector: Any, eventually: Fixture, tmp_path: Path) -> None:
    """Two workers; the call's prompt, session and tags are on row, span and access log; feedback from anywhere finds the stream while it
    runs and after it, counts once per change, and can be asked for."""
    held, log = Held(), tmp_path / "access.log"
    parts = {"store": {"path": "weir.db"}, "access_log": str(log), "otlp": {"endpoint": collector.url}}
    gateway = await weir({"a": await provide(faults=Always(held.script))}, server={"workers": 2}, telemetry=parts)

    async def live() -> Any:
        rows = (await gateway.ask("/api/streams?session=s-1&tag.env=prod"))["streams"]
        return rows and rows[0]["outcome"] is None and rows[0]

    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=30.0) as http:
        asked = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
        async with http.stream("POST", "/v1/chat/completions", json=asked, headers=NAMED) as reply:
            stream_id = reply.headers["x-weir-stream-id"]
            row = await eventually(live, "the stream is live")
            assert row["stream_id"] == stream_id
            for _ in range(4):  # whichever worker hears it
                answer = await say(gateway, stream_id=stream_id, score=1, comment="it goes well")
                assert (answer.status_code, answer.json()) == (202, {"stream_id": stream_id, "score": 1, "comment": "dropped"})
            await eventually(lambda: _rows(gateway, "feedback=1"), "what is said of a live stream is seen")
            held.release()
            assert (await reply.aread()).endswith(b"data: [DONE]\n\n")
    [told] = await gateway.told(1)

    async def counted(score: str, stream: str = "fine") -> float:
        return float((await gateway.scrape()).sum("weir_feedback_total", route="chat", score=score, stream=stream))

    await eventually(lambda: counted("1"), "it is counted when the stream has ended")
    assert [told[name] for name in ("prompt", "prompt_version", "session", "tags")] == ["greet", "7", "s-1", {"env": "prod"}]
    for _ in range(3):
        assert (await say(gateway, stream_id=stream_id, score=-1)).status_code == 202
    await eventually(lambda: _rows(gateway, "feedback=-1&prompt=greet&prompt_version=7&tag.env=prod"), "the last word is found")
    assert (await counted("1"), await counted("-1")) == (1, 1)
    assert await _rows(gateway, "feedback=1") == []
    view = await gateway.ask(f"/api/streams/{stream_id}")
    assert (view["feedback"]["score"], view["feedback"]["comment"]) == (-1, None)

    line = await eventually(lambda: log.exists() and log.read_text(), "the stream is in the access log")
    written = json.loads(line)
    assert [written[name] for name in ("prompt", "prompt_version", "session", "tags")] == ["greet", "7", "s-1", {"env": "prod"}]
    await eventually(lambda: collector.spans, "the span has arrived", 30.0)
    attributes = collector.attributes(collector.spans[0])
    assert [attributes[f"weir.prompt.{name}"] for name in ("name", "version")] == ["greet", "7"]
    assert attributes["session.id"] == "s-1"
    health = (await gateway.ask("/healthz"))["store"]
    assert health["bytes"] > 10_000
    assert 0 < health["oldest"] < 60


async def _rows(gateway: Any, query: str) -> list[Any]:
    return list((await gateway.ask(f"/api/streams?{query}"))["streams"])
