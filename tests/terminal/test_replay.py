"""`weir replay`: from the admin API or a file, to the terminal or as a provider, as it is typed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

from gateway.console.views import detail
from gateway.core.messages import Begun, Ended
from gateway.core.record import Cadence, Stall
from gateway.telemetry.account import account
from gateway.telemetry.recorder import Recorder

Serve = Callable[..., Awaitable[tuple[Recorder, ClientSession]]]
TRIES = 5


@pytest.fixture
def stalled(make_record: Any) -> Any:
    """A stream of five tokens that fell silent for 400 ms after its third."""
    record = make_record(1)
    silence = Stall(at=record.received_at + 0.34, length=0.4, blame="upstream", chunk=3)
    record.cadence = Cadence(
        chunks=5, arrivals=5, ticks=[0, 200, 200, 4000, 200], gap_p50=0.02, gap_p95=0.4,
        stalls=[silence], stall_count=1, stall_time={"upstream": 0.4},
    )  # fmt: skip
    record.dialect, record.first_answer_at = "openai", record.first_token_at
    return record


@pytest.fixture
def saved(stalled: Any, tmp_path: Path) -> Path:
    """It as a file, with its text beside it."""
    view = detail(account(stalled))
    view["said"] = {"text": "one two\x1b[2J three", "reasoning": "", "tools": [], "cuts": [3, 7, 11, 14, 17]}
    (tmp_path / "stream.json").write_bytes(orjson.dumps(view))
    return tmp_path / "stream.json"


async def told(recorder: Recorder, until: Any) -> None:
    assert recorder.store is not None
    store = recorder.store
    async with asyncio.timeout(20):
        while not await asyncio.to_thread(store.newest_ids, 10):  # noqa: ASYNC110 - it is a file
            await asyncio.sleep(0.02)


async def test_a_stored_stream_is_printed_as_it_came(serve: Serve, weir: Any, until: Any, stalled: Any) -> None:
    """A mark for each token, the stall where it was with its owner and length, the figures last; it takes as long as the stream did."""
    recorder, session = await serve()
    recorder.receive(Ended(1, stalled))
    await told(recorder, until)
    took = list[float]()
    while not took or took[-1] <= 0.6:  # a busy machine may show us its first line late
        assert len(took) < TRIES, took
        view = await weir("replay", "stream-1", "--admin", str(session._base_url))
        assert (await view.line()).startswith("stream-1  chat  tiny from fast")
        assert "not stored" in await view.line()
        began = time.monotonic()
        shown, figures = await view.line(), await view.line()
        took.append(time.monotonic() - began)
    assert shown == "▪▪▪ [stall U 400 ms, upstream] ▪▪"
    assert figures == "ttft 300 ms  gap p50 20 ms, p95 400 ms  stalls 1 (400 ms upstream)  5 chunks in 1.00 s  completed"
    assert await view.over() == (0, "", "")


async def test_a_file_is_played_with_its_text(weir: Any, saved: Path) -> None:
    """What was captured is printed in its place, and cannot steer the terminal; nobody is asked for a file."""
    code, out, err = await (await weir("replay", "--from", str(saved), "--speed", "50")).over()
    assert (code, err) == (0, "")
    assert out.splitlines()[1] == "one two\ufffd[2J [stall U 400 ms, upstream]  three"


async def test_speed_scales_every_wait(weir: Any, saved: Path) -> None:
    """A tenth of the speed takes ten times as long, until somebody has had enough: then it leaves with 0."""
    view = await weir("replay", "--from", str(saved), "--speed", "0.01")
    await view.line()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await view.process.stdout.read(1)
    assert (await view.interrupt())[0] == 0


async def test_served_it_answers_with_the_stream(weir: Any, saved: Path) -> None:
    """`--serve` prints the base URL of the stream's dialect, and every call for a stream there gets this one."""
    view = await weir("replay", "--from", str(saved), "--serve", "--port", "0")
    dialect, url = (await view.line()).split(": ")
    assert dialect == "openai"
    assert (await view.line()).startswith("  stream-1: 5 arrivals, first token after 0.300 s, over after 1.000 s, completed")
    asked = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
    async with ClientSession() as session:
        for _ in range(2):
            began = time.monotonic()
            async with session.post(f"{url}/chat/completions", json=asked) as answer:
                body = await answer.read()
            assert 0.9 < time.monotonic() - began < 15
            assert body.endswith(b"data: [DONE]\n\n")
            chunks = [orjson.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
            assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "one two\x1b[2J three"
    assert (await view.interrupt())[::2] == (0, "")


async def test_content_is_asked_for(weir: Any, stalled: Any) -> None:
    """Where the admin API has a stream's text, it is played; the door may also not be there, or hold nothing."""

    async def record(_: web.Request) -> web.Response:
        return web.json_response(body=orjson.dumps(detail(account(stalled))))

    async def content(request: web.Request) -> web.Response:
        if request.match_info["id"] == "none":
            return web.json_response({"error": "not stored"}, status=404)
        return web.json_response({"prompt": "p", "text": "a b c d e", "reasoning": "", "tools": [], "cuts": [1, 3, 5, 7, 9]})

    app = web.Application()
    app.router.add_get("/api/streams/{id}", record)
    app.router.add_get("/api/streams/{id}/content", content)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    where = ("--admin", f"127.0.0.1:{runner.addresses[0][1]}", "--speed", "100")
    code, out, err = await (await weir("replay", "some", "none", *where)).over()
    await runner.cleanup()
    assert (code, err) == (0, "")
    assert [line for line in out.splitlines() if "stall U" in line] == [
        "a b c [stall U 400 ms, upstream]  d e",
        "▪▪▪ [stall U 400 ms, upstream] ▪▪",
    ]


async def test_mistakes_are_one_line(serve: Serve, weir: Any, make_record: Any, tmp_path: Path) -> None:
    """No such stream, one that goes on, no such file, no JSON, no record, a document, a taken port, nothing asked for."""
    recorder, session = await serve()
    recorder.receive(Begun(make_record(2, ended_at=None)))
    admin = ("--admin", str(session._base_url))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "other.json").write_text("{}")
    whole = detail(account(make_record(3, streamed=False)))
    (tmp_path / "whole.json").write_bytes(orjson.dumps(whole))
    port = str(session._base_url).rstrip("/").rpartition(":")[2]
    good = detail(account(make_record(4)))
    (tmp_path / "good.json").write_bytes(orjson.dumps(good))
    for arguments, words, expected in (
        (("nobody\x1b[2J", *admin), "no stream nobody\ufffd[2J is live or stored", 1),
        (("stream-2", *admin), "the stream stream-2 has not ended yet", 1),
        (("--from", "nowhere.json"), "nowhere.json: No such file", 1),
        (("--from", str(tmp_path / "bad.json")), "this is no JSON", 1),
        (("--from", str(tmp_path / "other.json")), "this is no record of a stream", 1),
        (("--serve", "--port", "0", "--from", str(tmp_path / "whole.json")), "came in one piece", 1),
        (("--serve", "--port", port, "--from", str(tmp_path / "good.json")), f"cannot listen on 127.0.0.1:{port}: Address already", 1),
        ((), "say which stream", 2),
    ):
        code, out, err = await (await weir("replay", *arguments)).over()
        assert (code, out, len(err.splitlines())) == (expected, "", 1), err
        assert words in err
