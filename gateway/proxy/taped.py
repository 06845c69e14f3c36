"""A stream on tape: it writes to the tape, whichever client is there is played what is on it, and one that has gone may come back."""

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping

from gateway.core.errors import GatewayError
from gateway.core.record import State
from gateway.proxy.headers import media_type
from gateway.proxy.plane import Live
from gateway.proxy.reply import HIGH_WATER, Reply
from gateway.proxy.tape import Tape

RESUMABLE = {"x-weir-on-disconnect": "drain"}
"""Tells a client that it may come back for this stream."""


class _Feed(asyncio.Transport):
    """What a relay takes for the transport of its client."""

    def __init__(self, taped: "Taped") -> None:
        self._taped = taped

    def is_closing(self) -> bool:
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._taped.write(bytes(data))

    def get_write_buffer_size(self) -> int:
        return self._taped.lag

    def abort(self) -> None:
        self._taped.break_off()


class Taped(Reply):
    """Stands where a stream's client stands. It is never gone; with nobody there to listen the stream goes on into the tape, for the
    route's `client.drain` seconds and `client.tape` bytes, and is then given up.

    `task` is what carries the stream. `holder` says who may come back (see `rejoin.holder`). `heard` is the furthest place on the tape
    that any client was given.
    """

    def __init__(self, live: Live, holder: bytes) -> None:
        self.transport, self.chunked, self.status = _Feed(self), False, None
        self.record, self.dialect, self.holder, self.terms = live.record, live.dialect, holder, live.route.client
        self.tape = Tape(live.framing, self.terms.tape)
        self._media_type, self._shelf = live.framing.media_type, live.plane.shelf
        self._live: Live | None = live  # until it is over: a tape that is kept keeps no prompt
        self._state: State = "queue"
        self.head: tuple[int, Mapping[str, str], int | None] | None = None
        self.sent: tuple[int, Mapping[str, str], bytes] | None = None
        self.ended = self.broken = self.cuts = self.hangs_up = self.over = self.given_up = False
        self.heard = 0
        self.task: asyncio.Task[None] | None = None
        self._playback: Playback | None = None
        self._unheard = 0
        self._eased: asyncio.Future[None] | None = None
        self._delivered: asyncio.Future[None] | None = None
        self._shelf.put(self)
        self._first: Playback | None = Playback(self, live.reply)

    @property
    def stream_id(self) -> str:
        return self.record.stream_id

    @property
    def size(self) -> int:
        """Bytes on the tape."""
        return self.tape.end - self.tape.start

    @property
    def lag(self) -> int:
        """Bytes that wait for the client that is there: on the tape, and in the buffer of its connection."""
        playback = self._playback
        return 0 if playback is None else self.tape.end - playback.place + playback.reply.transport.get_write_buffer_size()

    @property
    def heard_out(self) -> bool:
        """True when the stream has ended, and all of it was given to some client."""
        return self.ended and self.heard == self.tape.end

    # What a stream asks of its client.

    @property
    def opened(self) -> bool:
        return self.head is not None or self.sent is not None

    @property
    def gone(self) -> bool:
        return False

    def open(self, status: int, headers: Mapping[str, str], length: int | None = None, first: bytes = b"") -> None:
        if self._is_stream(status, headers):
            headers = {**headers, **RESUMABLE}
        else:
            self.tape = Tape(None, self.terms.tape)
        self.head = (status, headers, length)
        said = self.tape.add(first)
        if self._playback is not None:
            self._playback.open(said)
        else:
            self._count(said)

    def _is_stream(self, status: int, headers: Mapping[str, str]) -> bool:
        """Tell whether a body is what this call's framing frames: anything else is passed on, and nobody can come back for it."""
        said = {name.lower(): value.lower() for name, value in headers.items()}
        framed = media_type(said) == self._media_type
        return status < 400 and framed and said.get("content-encoding", "identity") == "identity"

    async def send(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.sent = (status, headers, body)
        self._end()

    def write(self, data: bytes) -> None:
        if self.ended or not data:
            return
        said = self.tape.add(data)
        if self._playback is not None:
            self._playback.hear(said)
        else:
            self._count(said)

    def keep_alive(self, data: bytes) -> bool:
        return self._playback is not None and self._playback.abreast and self._playback.reply.keep_alive(data)

    def unsent(self) -> int:
        playback = self._playback
        return 0 if playback is None else self.tape.end - playback.place + playback.reply.unsent()

    async def drained(self) -> None:
        while self.lag > HIGH_WATER:
            self._eased = asyncio.get_running_loop().create_future()
            await self._eased

    async def close(self, last: bytes = b"") -> None:
        self.write(last)
        if not self.ended:
            said = self.tape.finish()
            if self._playback is not None:
                self._playback.hear(said)
            self._end()

    async def cut(self) -> None:
        self.cuts = True
        await self.close()

    def break_off(self) -> None:
        if not self.ended:
            self.broken = True
            self._end()
            if self._playback is not None:
                self._playback.reply.break_off()

    def hang_up_after(self) -> None:
        self.hangs_up = True

    def _end(self) -> None:
        self.ended = True
        if self._playback is not None:
            self._playback.poke()

    # Clients that come and go.

    async def play_first(self) -> None:
        """Play to the client that made the call."""
        playback, self._first = self._first, None  # with it goes its request, which holds the prompt
        assert playback is not None
        await playback.play()

    def attach(self, playback: "Playback") -> None:
        """Somebody listens; whoever did until now is dropped: its connection is a dead one as a rule, and nobody has noticed yet."""
        before, self._playback, self._unheard = self._playback, playback, 0
        if before is not None:
            before.replace()
        if not self.over:
            self._shelf.found(self)
            if self._live is not None and self._live.state == "draining":
                self._show(self._state)
        self.ease()

    def detach(self, playback: "Playback") -> None:
        """A client has gone, or has heard everything."""
        if self._playback is not playback:
            return
        self._playback = None
        self.ease()
        if self.over or self.heard_out:
            return
        if self.tape.torn:
            self.give_up()
            return
        if self._live is not None:
            self._state = self._live.state
        self._show("draining")
        self._shelf.leave_alone(self, self.terms.drain)

    def _show(self, state: State) -> None:
        """Let an operator see whether anybody listens."""
        if (live := self._live) is not None and self.record.attempts:
            live.move(state, self.record.upstream, live.plane.clock())

    def ease(self) -> None:
        """Let the stream go on if its client has taken enough, or has gone."""
        if self._eased is not None and not self._eased.done() and self.lag <= HIGH_WATER:
            self._eased.set_result(None)

    def took(self, place: int) -> None:
        """A client was given what is on the tape up to this place."""
        self.heard = max(self.heard, place)
        self.tape.shorten(place)
        if self.heard_out:
            self.stop_waiting()

    def _count(self, said: bytes) -> None:
        """Bytes that nobody hears are counted: no client wants back a stream whose tape no longer reaches to where it left."""
        self._unheard += len(said)
        self.tape.shorten(self.tape.end)
        if self._unheard > self.terms.tape or self.tape.torn:
            self.give_up()

    # The end.

    async def to_its_end(self, carrying: Awaitable[None]) -> None:
        """Carry the stream, then wait until a client has been given all of it. An answer that nobody has heard out has no listener,
        however well it ended: its client has left."""
        record, live = self.record, self._live
        assert live is not None
        try:
            await carrying
            if record.outcome == "completed" and not self.heard_out:
                live.own("client_blocked", live.plane.clock())
                live.stop = self.stop_waiting
                self._delivered = asyncio.get_running_loop().create_future()
                await self._delivered
        finally:
            if self.tape.ids:
                record.mutations["event_id"] = self.tape.ids
            if record.outcome == "completed" and self.heard < self.tape.end:
                record.outcome = "client_disconnect"

    def stop_waiting(self, error: GatewayError | None = None) -> None:
        """Wait for nobody any more. `error` is why we are the ones to end it: a client that was still taking its answer is cut off."""
        if self._delivered is None or self._delivered.done():
            return
        self._delivered.set_result(None)
        if error is not None and self._playback is not None:
            self.given_up = True
            self.record.outcome, self.record.error = error.outcome, error.code
            self._playback.reply.break_off()

    def give_up(self) -> None:
        """Nobody comes back for this stream: end it as one whose client has left. May be called twice."""
        if self.given_up:
            return
        self.given_up = True
        self._shelf.found(self)
        if self._delivered is not None:
            self.stop_waiting()
        elif self.task is not None:
            self.task.cancel()

    def conclude(self) -> None:
        """The stream is over and told; its tape stays for a while unless it has been given up."""
        self.over, self._live, self.task = True, None, None
        if self.ended and not self.given_up:
            self._shelf.keep(self, self.terms.drain)
        else:
            self.break_off()
            self._shelf.drop(self)


class Playback:
    """One client's connection on which a tape is played: first what is on it from `place` on, then what comes.

    `abreast` says that the client has been given everything, and has room: then what comes is written in the same call.
    """

    def __init__(self, taped: Taped, reply: Reply, place: int = 0) -> None:
        self._taped, self.reply, self.place = taped, reply, place
        self.abreast = False
        self._replaced = False
        self._news: asyncio.Future[None] | None = None
        self._guard: asyncio.TimerHandle | None = None
        self._unsent = 0
        taped.attach(self)
        if taped.head is not None:
            self.open(b"")

    async def play(self) -> None:
        """Play until the stream ends, its client leaves, or another takes its place. A client that has left is no error."""
        taped = self._taped
        try:
            with contextlib.suppress(ConnectionError):
                while not self._replaced:
                    if not taped.opened and not taped.ended:
                        await self._wait()
                    elif taped.head is None:
                        await self._answer()
                        break
                    elif not self._catch_up():
                        await self._guarded(self.reply.drained())
                    elif taped.ended:
                        await self._close()
                        break
                    else:
                        await self._wait()
        finally:
            taped.detach(self)

    def open(self, first: bytes) -> None:
        """Send the head, and the first bytes with it."""
        assert self._taped.head is not None
        status, headers, length = self._taped.head
        self.reply.open(status, headers, length, first)
        self._move(self.place + len(first))

    def hear(self, said: bytes) -> None:
        """The tape has grown by these bytes."""
        if not said:
            return
        if self.abreast:
            self.reply.write(said)
            self._move(self.place + len(said))
            if self.abreast:
                return
        self.poke()

    def _move(self, place: int) -> None:
        self.place = place
        self._taped.took(place)
        self.abreast = place == self._taped.tape.end and self.reply.transport.get_write_buffer_size() <= HIGH_WATER

    def _catch_up(self) -> bool:
        """Write what the client has not had while it has room; tell whether that was all."""
        tape, transport = self._taped.tape, self.reply.transport
        while self.place < tape.end and transport.get_write_buffer_size() <= HIGH_WATER:
            data, place = tape.read(self.place, HIGH_WATER)
            self.reply.write(data)
            self._move(place)
        self._move(self.place)
        self._taped.ease()
        return self.abreast

    def replace(self) -> None:
        """Another connection plays this tape from here on."""
        self._replaced = True
        self.reply.break_off()
        self.poke()

    def poke(self) -> None:
        """There is something new to look at."""
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    async def _wait(self) -> None:
        self._news = asyncio.get_running_loop().create_future()
        await self._news

    async def _answer(self) -> None:
        """There was no stream: pass on what its call was answered with."""
        if self._taped.sent is None:
            self.reply.break_off()
        else:
            await self._guarded(self.reply.send(*self._taped.sent))

    async def _close(self) -> None:
        if self._taped.broken:
            self.reply.break_off()
            return
        if self._taped.hangs_up:
            self.reply.hang_up_after()
        await self._guarded(self.reply.cut() if self._taped.cuts else self.reply.close())

    async def _guarded(self, work: Awaitable[None]) -> None:
        """Wait for the client; one that takes nothing for `write_timeout` is broken off. A stream that still runs sees to that itself."""
        self._unsent = self.reply.unsent()
        self._look_later()
        try:
            await work
            if self.reply.transport.get_write_buffer_size() > HIGH_WATER:
                await asyncio.sleep(0)  # a transport that is over its mark and has not said so yet
        finally:
            if self._guard is not None:
                self._guard.cancel()

    def _look_later(self) -> None:
        self._guard = asyncio.get_running_loop().call_later(self._taped.terms.write_timeout, self._look)

    def _look(self) -> None:
        before, self._unsent = self._unsent, self.reply.unsent()
        if self._taped.ended and self._unsent == before:
            self.reply.break_off()
        else:
            self._look_later()
