"""Recordings from where they are: the admin API, with the text where it was stored, or a file somebody saved."""

import asyncio
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import uvloop

from gateway.terminal.admin import Admin, Place, Unanswered
from gateway.terminal.leaving import Unable
from gateway.terminal.recording import NotARecording, Recording, read
from gateway.terminal.rerun import Rerun


def fetch(place: Place, stream_ids: Sequence[str]) -> list[Recording]:
    """Ask for these streams. Raises Unanswered, NotARecording."""
    return asyncio.run(_fetch(place, stream_ids))


async def _fetch(place: Place, stream_ids: Sequence[str]) -> list[Recording]:
    async with Admin(place) as admin:
        return [read(await admin.stream(stream_id), await _content(admin, stream_id)) for stream_id in stream_ids]


async def _content(admin: Admin, stream_id: str) -> Any:
    """Return what a stream said, None where that was not stored."""
    try:
        return await admin.get(f"/api/streams/{quote(stream_id, safe='')}/content")
    except Unanswered as error:
        if error.status in (404, 405):
            return None
        raise


def load(file: Path) -> Recording:
    """Read a record that was saved as JSON, with its text if that was put beside it as `said`. Raises NotARecording."""
    try:
        view = orjson.loads(file.read_bytes())
        return read(view, view.get("said") if isinstance(view, dict) else None)
    except OSError as error:
        raise NotARecording(f"{file}: {error.strerror}") from None
    except orjson.JSONDecodeError:
        raise NotARecording(f"{file}: this is no JSON") from None
    except NotARecording as error:
        raise NotARecording(f"{file}: {error}") from None


def serve(recordings: Sequence[Recording], speed: float, port: int, announce: Callable[[str], None]) -> None:
    """Serve recordings until Ctrl-C. Raises Unable."""
    uvloop.run(_serve(Rerun(recordings, speed), recordings, port, announce))


async def _serve(provider: Rerun, recordings: Sequence[Recording], port: int, announce: Callable[[str], None]) -> None:
    try:
        await provider.start(port=port)
    except OSError as error:
        raise Unable(f"cannot listen on 127.0.0.1:{port}: {os.strerror(error.errno) if error.errno else error}") from None
    try:
        for dialect in dict.fromkeys(recording.record.dialect or "openai" for recording in recordings):
            announce(f"{dialect}: {provider.url(dialect)}")
        for recording in recordings:
            announce(f"  {described(recording)}")
        await asyncio.Event().wait()
    finally:
        await provider.close()


def described(recording: Recording) -> str:
    """Return what is served and what of it is not as it was."""
    record = recording.record
    first = recording.arrivals[0].at if recording.arrivals else None
    parts = [f"{record.stream_id}: {len(recording.arrivals)} arrivals"]
    parts.append(f"first token after {first:.3f} s" if first is not None else "no token")
    parts.append(f"over after {recording.ended:.3f} s")
    parts.append(record.outcome)
    if record.outcome in {"client_disconnect", "client_stalled", "operator_abort", "shutdown", "guard_blocked"}:
        parts.append("what would have followed is not known: it ends there as if complete")
    if not recording.captured and recording.arrivals:
        parts.append("its text was not stored")
    return ", ".join(parts)
