"""A story: somebody looks at what one bad stream said, and how, and has it again."""

import asyncio
import os
import re
import sys
from pathlib import Path
from typing import Any

import orjson

from gateway.sim.faults import Always, Stall
from gateway.sim.tempers import Temper
from gateway.terminal.ink import BLAMES, seconds

TEMPER = Temper(ttft="50ms", gap="15ms", tokens=12)
KEPT = {"content": "full", "stall": {"threshold": "500ms"}}


async def replayed(*arguments: str) -> str:
    """Run `weir replay` to its end, and return what it printed."""
    command = (sys.executable, "-W", "ignore", "-m", "gateway", "replay", *arguments)
    view = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ}
    )
    async with asyncio.timeout(60):
        out, err = await view.communicate()
    assert (view.returncode, err) == (0, b""), err
    return out.decode()


async def test_a_kept_stream_is_played_with_its_words(weir: Any, provide: Any, client: Any, tmp_path: Path) -> None:
    """Stored by the real program, it is printed word for word, its stall where it was; so it is from a file."""
    provider = await provide(faults=Always(Stall(after=6, length=1.0)), temper=TEMPER)
    gateway = await weir({"a": provider}, route=KEPT)
    answer = await client(gateway).ask()
    chunks = [orjson.loads(line[6:]) for line in answer.body.splitlines() if line.startswith(b"data: {")]
    words = [word for chunk in chunks if chunk["choices"] and (word := chunk["choices"][0]["delta"].get("content"))]
    [row] = await gateway.told(1)
    record = await gateway.ask(f"/api/streams/{row['stream_id']}")
    stalls = record["cadence"]["stalls"]  # a busy machine may have added some of its own
    [place] = [place for place, stall in enumerate(stalls) if stall["chunk"] == 6]
    assert stalls[place]["length"] > 0.9
    shown = await replayed(row["stream_id"], "--admin", gateway.admin_url, "--speed", "5")
    first, *lines, figures = shown.splitlines()
    assert first.startswith(f"{row['stream_id']}  chat  m from a")
    played = re.split(r" \[stall ([^]]*)\] ", "\n".join(lines))
    assert played[1::2] == [f"{BLAMES[stall['blame']][0]} {seconds(stall['length'])}, {stall['blame']}" for stall in stalls]
    assert "".join(played[::2]).rstrip("\n") == "".join(words).rstrip("\n")
    assert "".join(played[: 2 * place + 1 : 2]) == "".join(words[:6])
    assert f"stalls {len(stalls)} (" in figures
    assert figures.endswith("completed")
    saved = tmp_path / "stream.json"
    saved.write_bytes(orjson.dumps({**record, "said": await gateway.ask(f"/api/streams/{row['stream_id']}/content")}))
    assert await replayed("--from", str(saved), "--speed", "5") == shown
