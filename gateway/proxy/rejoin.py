"""The door by which a client comes back for its stream: `GET /v1/streams/{id}`, with the id of the last event that it has had."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from gateway.core.errors import Rejected
from gateway.core.messages import Rejoined
from gateway.proxy.doors import JSON, Params
from gateway.proxy.farewell import Farewell
from gateway.proxy.neighbours import Neighbours
from gateway.proxy.plane import Plane
from gateway.proxy.reply import HIGH_WATER, Reply
from gateway.proxy.taped import Playback, Taped

PATH = "/v1/streams/{id}"
STREAM_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
NUMBER = re.compile(r"[0-9]{1,15}", re.ASCII)
CREDENTIALS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
"""Headers that may carry a caller's key; Gemini's may also stand in the query, as `key`."""
SALT = os.urandom(32)
HEARD = b"!"
"""The first word of a worker to another that hands it a request: it says nothing but that somebody is there."""
NEIGHBOUR_SECONDS = 5.0
"""How long that may take: longer than the loop of a worker that lives is ever late."""


class GoneBy(Rejected):
    """What the client asks for has been dropped from the tape."""

    status = 410
    code = "tail_dropped"


class NotOnTape(Rejected):
    """The stream lives, and was not asked to outlive its client."""

    status = 409
    code = "not_resumable"


def stream_id(random: str, worker: int) -> str:
    """Make a stream's id of 32 hexadecimal digits: 28 of `random`, which nobody can guess, and the number of its worker."""
    return f"{random[:28]}{worker & 0xFFFF:04x}"


def holder(request: web.BaseRequest) -> bytes:
    """Name who makes a request, in a way that gives no secret away: only the same name may come back for a stream.

    It is a salted hash of the credentials as they were sent, good in this process only. A worker that knows its callers by better
    means than their keys says so here.
    """
    headers, query = request.headers, request.query if request.query_string else {}
    shown = [(name, headers.get(name, "")) for name in CREDENTIALS]
    if not shown[-1][1] and (key := query.get("key", "")):
        shown[-1] = (CREDENTIALS[-1], key)
    said = json.dumps(shown).encode()
    return hashlib.blake2b(said, key=SALT, digest_size=32).digest()


class Rejoin:
    """Plays the tape of a stream to the client that had it, from the event after `Last-Event-ID`, and goes on with it live.

    A stream of another worker is that one's to play: the answer is passed on as it comes.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def __call__(self, request: web.BaseRequest, params: Params) -> web.StreamResponse:
        asked, reply = params.get("id", ""), Reply(request)
        with contextlib.suppress(ConnectionError):  # the client has left again, before it was answered
            try:
                await self._find_way(asked, request, reply)
            except Rejected as error:
                await Farewell(self._plane, reply).over(reply.send(error.status, JSON, self._body(error, asked)))
        return reply.response

    async def _find_way(self, asked: str, request: web.BaseRequest, reply: Reply) -> None:
        """Answer from the tape, here or where it is; a worker that is no more has left none."""
        if request.method != "GET":
            raise Rejected("a stream can only be listened to", code="method_not_allowed", status=405)
        if not STREAM_ID.fullmatch(asked):
            raise unknown()
        owner, neighbours = int(asked[28:], 16), self._plane.neighbours
        if neighbours is not None and owner != neighbours.number and neighbours.present(owner):
            await pass_on(self._plane, request, reply, neighbours, owner)
        else:
            await self._come_back(asked, request, reply)

    async def _come_back(self, asked: str, request: web.BaseRequest, reply: Reply) -> None:
        taped, place = self._find(asked, request)
        if not taped.over:
            taped.record.reconnects += 1
        self._plane.tell(Rejoined(asked, taped.record.route))
        await Playback(taped, reply, place).play()

    def _find(self, asked: str, request: web.BaseRequest) -> tuple[Taped, int]:
        """Return a stream that this caller may come back for, and the place on its tape where it goes on for it."""
        taped, live = self._plane.shelf.find(asked), self._plane.live.get(asked)
        owner = taped.holder if taped is not None else holder(live.reply.request) if live is not None else b""
        if not hmac.compare_digest(owner, holder(request)) or (taped is not None and taped.given_up):
            raise unknown()
        if taped is None or taped.tape.torn:
            raise NotOnTape("this answer ends with the connection of its client")
        if (last := last_event(request)) > taped.tape.count:
            raise Rejected("Last-Event-ID names an event that has not been sent", code="invalid_last_event_id")
        if (place := taped.tape.after(last)) is None:
            raise GoneBy("the events after this one are no longer kept")
        return taped, place

    def _body(self, error: Rejected, asked: str) -> bytes:
        """Render an error, in the words of the stream's dialect where the caller may know that there is one."""
        carrier = self._plane.shelf.find(asked) or self._plane.live.get(asked)
        if carrier is None or error.status in {404, 405}:
            return json.dumps({"error": {"message": error.message, "type": error.kind, "code": error.code}}).encode()
        return carrier.dialect.error_body(error)


def unknown() -> Rejected:
    """A stream that is not here, or not this caller's: the two cannot be told apart from outside."""
    return Rejected("there is no such stream, or it can no longer be taken up", code="unknown_stream", status=404)


def last_event(request: web.BaseRequest) -> int:
    """Return the number of the last event that the client has had, 0 when it has had none."""
    said = request.headers.get("Last-Event-ID", "").strip()
    if said and not NUMBER.fullmatch(said):
        raise Rejected("Last-Event-ID must be the id of an event of this stream", code="invalid_last_event_id")
    return int(said or "0")


async def pass_on(plane: Plane, request: web.BaseRequest, reply: Reply, neighbours: Neighbours, owner: int) -> None:
    """Hand a request to the worker whose stream it is about, and pass its answer on: no more is read than the client takes."""
    writer, began = None, False
    try:
        reader, writer = await neighbours.ring(owner)
        writer.write(handed_over(request))
        async with asyncio.timeout(NEIGHBOUR_SECONDS):
            await reader.readexactly(len(HEARD))
        while data := await reader.read(HIGH_WATER):
            if not began:
                reply.take_over()
                began = True
            reply.transport.write(data)
            await Farewell(plane, reply).over(reply.drained())
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        if not began:
            raise unknown() from None
        reply.break_off()
    finally:
        if writer is not None:
            writer.transport.abort()


def handed_over(request: web.BaseRequest) -> bytes:
    """Return a request as the other worker must see it: whose stream, who asks, and from where on."""
    version, path = request.version, request.rel_url.raw_path_qs
    kept = [f"{name}: {request.headers[name]}" for name in ("Last-Event-ID", *CREDENTIALS) if name in request.headers]
    lines = [f"GET {path} HTTP/{version.major}.{version.minor}", "Host: weir", "Connection: close", *kept, "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def for_neighbours(plane: Plane) -> Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]:
    """Return what serves the requests that other workers hand over: this door alone, after a sign that somebody is there."""
    rejoin = Rejoin(plane)

    async def serve(request: web.BaseRequest) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.write(HEARD)
        return await rejoin(request, {"id": request.rel_url.raw_path.rpartition("/")[2]})

    return serve
