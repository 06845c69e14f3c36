"""What a dialect must know so that nothing else has to: how calls are read and edited, and what the frames of an answer say."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from gateway.core.call import Call, Operation
from gateway.core.errors import GatewayError
from gateway.core.events import Event
from gateway.wire import sse


class Endpoint(Struct, frozen=True):
    """One door of the gateway: `path` is what clients ask for, `upstream_path` what is appended to an upstream's base URL."""

    method: Literal["GET", "POST"]
    path: str
    operation: Operation
    upstream_path: str


class Reader(Protocol):
    """Reads the frames of one stream in order; it keeps a few words of state, never text."""

    def events(self, frame: sse.Frame) -> Sequence[Event]:
        """Return what a frame says, nothing for what is no part of the answer.

        Raises `msgspec.ValidationError` for JSON of no known shape and `msgspec.DecodeError` for what is not JSON at all.
        """


class Dialect(Protocol):
    """One wire format of requests and answers. Stateless: one instance serves every stream."""

    @property
    def name(self) -> str:
        """What routes.yaml calls it."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The doors it opens."""

    @property
    def keepalive(self) -> bytes:
        """Bytes that mean nothing between two events, to keep a waiting client's connection open; empty when there are none."""

    @property
    def ending(self) -> bytes:
        """Bytes that end an event wherever a read ends with them; a read may end an event without them too."""

    @property
    def usage_mark(self) -> bytes:
        """Bytes without which no frame can be a usage frame: a cheap question to ask of every read."""

    def parse_call(self, endpoint: Endpoint, body: bytes) -> Call:
        """Read a request; raises `core.errors.Rejected` when it is not one this endpoint can carry."""

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> bytes:
        """Return the body for an upstream: `model` instead of the one asked for (None keeps it), and usage asked for when
        `inject_usage` is set and the client was silent about it. Every other byte is the client's."""

    def injects_usage(self, call: Call) -> bool:
        """Tell whether asking the upstream for usage is ours to do: the answer is streamed and the client said nothing about it."""

    def credential(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry an upstream's key."""

    def parser(self) -> sse.Parser:
        """Return a new parser of this dialect's framing."""

    def cutter(self) -> sse.Cutter:
        """Return a new cutter of this dialect's framing."""

    def reader(self, call: Call) -> Reader:
        """Return a new reader for the stream that answers `call`."""

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        """Return what an answer in one piece says: Started, Usage, Finished, Failed. Raises as `Reader.events` does."""

    def is_usage_frame(self, frame: sse.Frame) -> bool:
        """Tell whether a frame is exactly what our asking for usage added to the stream; never raises."""

    def refuses_usage(self, status: int, body: bytes) -> bool:
        """Tell whether an upstream's error answer is about our asking for usage."""

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:
        """Tell whether a stream that has ended had come to its proper end."""

    def error_body(self, error: GatewayError) -> bytes:
        """Render an error as the body of a response."""

    def error_event(self, error: GatewayError) -> bytes:
        """Render an error as the last event of a stream; no terminal marker follows it."""

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        """Render the list of models; `created` is Unix seconds."""


Registry = Mapping[str, Dialect]
