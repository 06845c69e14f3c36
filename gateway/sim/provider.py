"""A simulated provider: every dialect over a raw asyncio protocol, with a temper and with faults that can be changed while it runs.

OpenAI's own paths are known at a glance, and its frames made without a detour: benchmarks run against them.
"""

import asyncio
import random
import socket
from collections.abc import Iterator

from gateway.core.call import Call
from gateway.core.errors import Rejected
from gateway.dialects import DIALECTS
from gateway.sim import accents, doors
from gateway.sim.answers import Answer, embeddings_document, read_prompt
from gateway.sim.connection import Connection
from gateway.sim.faults import NO_FAULTS, Fault, FaultScript, Refuse, SplitUtf8, Turn, fault_from
from gateway.sim.plan import WHOLE, document, refusal, reply, stream
from gateway.sim.player import Request
from gateway.sim.refusals import openai_error
from gateway.sim.steps import Step
from gateway.sim.tempers import STEADY, Temper
from gateway.sim.voices import Voice

__all__ = ["Connection", "Provider"]

KEEP = 10_000
_ALIVE = {"/healthz": b'{"status":"ok"}', "/": b"Ollama is running", "/api/version": b'{"version":"0.0.0-sim"}'}
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
        """What an OpenAI SDK or an upstream of routes.yaml takes."""
        return self.url("openai")

    def url(self, dialect: str) -> str:
        """Return the base URL for clients of a dialect, as its own SDK takes it."""
        return f"http://{self.host}:{self.port}{doors.ROOTS.get(dialect, '')}"

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

    def accept(self, connection: Connection) -> int | None:
        """Return the number of a new connection, or None when the script refuses it."""
        if type(self._pick("")) is Refuse:
            self._turn += 1
            self.refused += 1
            return None
        self._accepted += 1
        self._connections.add(connection)
        return self._accepted

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def answer(self, request: Request, keep_alive: bool) -> Iterator[Step]:
        """Return the steps that answer a request, and note it."""
        self.total += 1
        self.requests.append(request)
        if len(self.requests) > KEEP:
            del self.requests[0]
        fields = {"Server": self.name, "Connection": "keep-alive" if keep_alive else "close"}
        path, _, query = request.path.partition("?")
        if request.method == "POST" and path in GENERATED:
            return self._answer_openai(request, path, fields, "openai", self.models[0])
        if request.method == "GET" and path in _ALIVE:
            return document(_ALIVE[path], 200, fields)
        if request.method == "GET" and (models := doors.listing(path, request.headers, self.models)) is not None:
            return document(models, 200, fields)
        if (found := doors.find(request.method, path)) is None:
            return _refuse(doors.tongue_of(path, request.headers), 404, f"No such endpoint: {request.method} {path}", fields)
        door, params = found
        if door.dialect.name == "azure":
            return self._answer_openai(request, "/v1" + door.endpoint.path.rpartition("}")[2], fields, "azure", params["deployment"])
        try:
            call = doors.read_call(door, params, query, request.body)
            fault = self._befalls(call.model, request.headers.get("x-sim-fault"))
        except (Rejected, ValueError) as error:
            return _refuse(door.dialect.name, 400, str(error), fields)
        return self._speak(call, self._number(request, fault), fault, fields)

    def _answer_openai(self, request: Request, path: str, fields: dict[str, str], tongue: str, model: str) -> Iterator[Step]:
        try:
            prompt = read_prompt(path, request.body, model)
            fault = self._befalls(prompt.model, request.headers.get("x-sim-fault"))
        except ValueError as error:
            return _refuse(tongue, 400, str(error), fields)
        ordinal = self._number(request, fault)
        dice = self._dice("answer", ordinal)
        if path == "/v1/embeddings":
            return _count(embeddings_document(prompt, dice), fault, fields, tongue)
        return self.generate(Answer(prompt, ordinal, dice, tongue), fault, fields)

    def _speak(self, call: Call, ordinal: int, fault: Fault, fields: dict[str, str]) -> Iterator[Step]:
        """Return the steps that answer a call of a dialect other than OpenAI's."""
        prompt, dice = doors.prompt_of(call), self._dice("answer", ordinal)
        if call.operation == "embeddings":
            return _count(accents.embedded(prompt, dice), fault, fields, call.dialect)
        answer = accents.voice(DIALECTS[call.dialect], call, prompt, ordinal, dice)
        if call.operation == "count_tokens":
            return _count(answer.count(), fault, fields, call.dialect)
        return self.generate(answer, fault, fields)

    def _number(self, request: Request, fault: Fault) -> int:
        """Give a request that is to be answered its ordinal."""
        request.fault, request.ordinal = fault.kind, self._ordinal
        self._ordinal += 1
        return request.ordinal

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

    def generate(self, answer: Answer | Voice, fault: Fault, fields: dict[str, str]) -> Iterator[Step]:
        """Return the steps of an answer whose words nobody has chosen yet; another kind of provider chooses them otherwise."""
        pace = self.temper.draw(answer.dice, self.open_streams)
        speech = "multibyte" if type(fault) is SplitUtf8 else self.temper.speech
        answer.compose(pace, speech, self.temper.tokens_per_chunk)
        streamed = answer.prompt.stream
        return stream(answer, pace, self.temper.burst, fault, fields) if streamed else reply(answer, pace, fault, fields)


def _count(body: bytes, fault: Fault, fields: dict[str, str], tongue: str) -> Iterator[Step]:
    """Return the steps of a document that nobody has to wait for: of all faults it knows those that replace the whole of it."""
    return WHOLE[type(fault)](fault, fields, tongue) if type(fault) in WHOLE else document(body, 200, fields)


def _refuse(tongue: str, status: int, message: str, fields: dict[str, str]) -> Iterator[Step]:
    if tongue == "openai":
        code = "not_found" if status == 404 else "bad_request"
        return document(openai_error(code, message, "invalid_request_error"), status, fields)
    return refusal(tongue, status, message, fields)
