"""A simulated provider: OpenAI's dialect over a raw asyncio protocol, with a temper and with faults that can be changed while it runs."""

import asyncio
import random
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

import httptools

from gateway.sim.answers import Answer, Prompt, embeddings_document, error_document, models_document, read_prompt
from gateway.sim.faults import NO_FAULTS, Fault, FaultScript, Refuse, SplitUtf8, Turn, fault_from
from gateway.sim.plan import WHOLE, document, reply, stream
from gateway.sim.player import Player, Request
from gateway.sim.steps import Step
from gateway.sim.tempers import STEADY, Temper

KEEP = 10_000
GENERATED = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings"})


class Provider:
    """A server on a real socket. `temper` and `faults` may be replaced at any time and hold for the requests that follow.

    `requests` keeps the last 10,000; `total` counts all, `refused` the connections closed at accept, `open_streams` the answers
    being given right now, `connections` the connections open. The header `x-sim-fault` of a request overrides the script.
    """

    def __init__(
        self,
        temper: Temper = STEADY,
        faults: FaultScript = NO_FAULTS,
        seed: int = 0,
        models: tuple[str, ...] = ("sim-small", "sim-large"),
        name: str = "sim",
    ) -> None:
        self.temper = temper
        self.faults = faults
        self.seed = seed
        self.models = models
        self.name = name
        self.host, self.port = "", 0
        self.requests: list[Request] = []
        self.total = self.refused = self.open_streams = 0
        self._ordinal = self._accepted = 0
        self._connections: set[Connection] = set()
        self._server: asyncio.Server | None = None

    @property
    def faults(self) -> FaultScript:
        return self._faults

    @faults.setter
    def faults(self, script: FaultScript) -> None:
        self._faults = script
        self._turn = 0

    @property
    def base_url(self) -> str:
        """What an SDK or an upstream of routes.yaml takes."""
        return f"http://{self.host}:{self.port}/v1"

    @property
    def connections(self) -> int:
        return len(self._connections)

    async def start(self, host: str = "127.0.0.1", port: int = 0, sock: socket.socket | None = None) -> int:
        """Listen, on `sock` if given, and return the port. Raises OSError."""
        loop = asyncio.get_running_loop()
        if sock is not None:
            self._server = await loop.create_server(lambda: Connection(self), sock=sock, backlog=4096)
        else:
            self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=4096)
        self.host, self.port = self._server.sockets[0].getsockname()[:2]
        return self.port

    async def close(self) -> None:
        """Stop listening and break off every answer; may be called twice."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for connection in tuple(self._connections):
            connection.drop("stopped")
        for _ in range(100):
            if not self._connections:
                break
            await asyncio.sleep(0.001)
        if server is not None:
            await server.wait_closed()

    def hang_up(self) -> int:
        """Close every connection that is idle, as a server does whose keep-alive time is over; return how many."""
        idle = [connection for connection in self._connections if connection.idle]
        for connection in idle:
            connection.drop("completed")
        return len(idle)

    def accept(self, connection: "Connection") -> int | None:
        """Return the number of a new connection, or None when the script refuses it."""
        if type(self._pick("")) is Refuse:
            self._turn += 1
            self.refused += 1
            return None
        self._accepted += 1
        self._connections.add(connection)
        return self._accepted

    def forget(self, connection: "Connection") -> None:
        self._connections.discard(connection)

    def answer(self, request: Request, keep_alive: bool) -> Iterator[Step]:
        """Return the steps that answer a request, and note it."""
        self.total += 1
        self.requests.append(request)
        if len(self.requests) > KEEP:
            del self.requests[0]
        fields = {"Server": self.name, "Connection": "keep-alive" if keep_alive else "close"}
        path = request.path.partition("?")[0]
        if request.method == "GET" and path in {"/healthz", "/v1/models"}:
            body = models_document(self.models) if path == "/v1/models" else b'{"status":"ok"}'
            return document(body, 200, fields)
        if request.method != "POST" or path not in GENERATED:
            return _refusal(404, f"No such endpoint: {request.method} {path}", fields)
        try:
            prompt = read_prompt(path, request.body, self.models[0])
            fault = self._befalls(prompt.model, request.headers.get("x-sim-fault"))
        except ValueError as error:
            return _refusal(400, str(error), fields)
        request.fault = fault.kind
        request.ordinal = self._ordinal
        self._ordinal += 1
        return self._generate(prompt, request.ordinal, fault, fields)

    def _befalls(self, model: str, asked: str | None) -> Fault:
        if asked is not None:
            return fault_from(asked)
        fault = self._pick(model)
        self._turn += 1
        return fault

    def _pick(self, model: str) -> Fault:
        return self._faults.pick(Turn(self._turn, model, self._dice("fault", self._turn)))

    def _dice(self, purpose: str, number: int) -> random.Random:
        return random.Random(f"{self.seed}/{purpose}/{number}")  # noqa: S311 - a simulation must be repeatable

    def _generate(self, prompt: Prompt, ordinal: int, fault: Fault, fields: dict[str, str]) -> Iterator[Step]:
        dice = self._dice("answer", ordinal)
        if prompt.path == "/v1/embeddings":
            return WHOLE[type(fault)](fault, fields) if type(fault) in WHOLE else document(embeddings_document(prompt, dice), 200, fields)
        answer = Answer(prompt, ordinal, dice)
        pace = self.temper.draw(dice, self.open_streams)
        speech = "multibyte" if type(fault) is SplitUtf8 else self.temper.speech
        answer.compose(pace, speech, self.temper.tokens_per_chunk)
        return stream(answer, pace, self.temper.burst, fault, fields) if prompt.stream else reply(answer, pace, fault, fields)


def _refusal(status: int, message: str, fields: dict[str, str]) -> Iterator[Step]:
    return document(error_document("not_found" if status == 404 else "bad_request", message, "invalid_request_error"), status, fields)


class Connection(asyncio.Protocol):
    """One connection: requests are read as they come, pipelined ones too, and answered one after the other."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._number = 0
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bool]] = deque()
        self._player: Player | None = None
        self._last: Request | None = None
        self._closed_by: str | None = None
        self._fresh()

    @property
    def idle(self) -> bool:
        return self._player is None and not self._queue

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports are of no asyncio class
        number = self._provider.accept(self)
        if number is None:
            self._transport.close()
            return
        self._number = number
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def data_received(self, data: bytes) -> None:
        if self._number == 0:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            body = error_document("bad_request", "This is not HTTP/1.1.", "invalid_request_error")
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            self.drop("cut", gently=True)

    def eof_received(self) -> None:
        """A client that says no more has left: what is still buffered for it must not keep the connection open."""
        self._leave("peer", "peer_left")
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it was lost makes no difference here
        self._leave("peer", "peer_left")
        self._provider.forget(self)

    def pause_writing(self) -> None:
        if self._player is not None:
            self._player.hold()

    def resume_writing(self) -> None:
        if self._player is not None:
            self._player.release()

    def drop(self, outcome: str, gently: bool = False) -> None:
        """Close from our side; an answer being given ends with `outcome`."""
        self._leave("us", outcome)
        if gently:
            self._transport.close()
        else:
            self._transport.abort()

    def _leave(self, by: str, outcome: str) -> None:
        """Note, once, who closed the connection."""
        if self._closed_by is not None:
            return
        self._closed_by = by
        self._queue.clear()
        if self._last is not None:
            self._last.closed_by, self._last.closed_at = by, time.monotonic()
        if self._player is not None:
            self._player.stop(outcome)

    # What httptools calls while it reads a request.

    def _fresh(self) -> None:
        self._url, self._body = b"", bytearray()
        self._headers: dict[str, str] = {}

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._headers.get("expect", "").lower() == "100-continue":
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            path=self._url.decode("latin-1"),
            headers=self._headers,
            body=bytes(self._body),
            at=time.monotonic(),
            connection=self._number,
        )
        self._queue.append((request, bool(self._parser.should_keep_alive())))
        self._fresh()
        self._next()

    def _next(self) -> None:
        """Begin the next answer when none is being given."""
        if self._player is not None or not self._queue or self._closed_by is not None:
            return
        request, keep_alive = self._queue.popleft()
        self._last = request
        steps = self._provider.answer(request, keep_alive)
        self._provider.open_streams += 1
        self._player = Player(self._transport, request, steps, self._settle(request, keep_alive))
        self._player.turn()

    def _settle(self, request: Request, keep_alive: bool) -> Callable[[str], None]:
        def ended(outcome: str) -> None:
            request.outcome, request.ended_at = outcome, time.monotonic()
            self._provider.open_streams -= 1
            self._player = None
            if outcome == "cut":
                self._leave("us", outcome)
            elif outcome == "completed" and not keep_alive:
                self.drop(outcome, gently=True)
            elif outcome == "completed":
                self._next()

        return ended
