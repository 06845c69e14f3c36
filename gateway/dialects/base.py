"""What a dialect must know so that nothing else has to: how calls are read and edited, what the frames of an answer say, and how the
same is said in its own words when a call or an answer comes from another dialect."""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from msgspec import Struct

from gateway.core.call import Call, Operation
from gateway.core.errors import GatewayError
from gateway.core.events import Event, Failed
from gateway.core.prompt import Prompt
from gateway.wire.framing import Frame, Framing


class Endpoint(Struct, frozen=True):
    """One door of the gateway: `path` is what clients ask for, with `{names}` for what varies; `upstream_path` is what is appended to
    an upstream's base URL where that does not depend on the call."""

    method: Literal["GET", "POST"]
    path: str
    operation: Operation
    upstream_path: str = ""


class Asked(Struct, frozen=True):
    """What the request line said beside the door: the values of the path's `{names}`, and the query's last value of each name."""

    params: Mapping[str, str] = {}
    query: Mapping[str, str] = {}


class Outgoing(Struct, frozen=True):
    """What goes to an upstream: a path relative to its base URL, query included; headers the dialect needs; and the body."""

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


class Stamp(Struct, frozen=True):
    """What a translated answer needs and no upstream may have given: an id that is unique, and the Unix second it was made in."""

    id: str
    created: int


class Reader(Protocol):
    """Reads the frames of one stream in order; it keeps a few words of state, never text."""

    def events(self, frame: Frame) -> Sequence[Event]:
        """Return what a frame says, nothing for what is no part of the answer.

        Raises `msgspec.ValidationError` for JSON of no known shape and `msgspec.DecodeError` for what is not JSON at all.
        """


class Writer(Protocol):
    """Says one answer in this dialect, event by event; it keeps what later frames must repeat, never text."""

    def feed(self, events: Sequence[Event]) -> bytes:
        """Return the frames that say these events, b"" while there is nothing to say yet. `Failed` is not said here: see `fail`."""

    def end(self) -> bytes:
        """Return what an answer that has come to its proper end still lacks: open blocks, finish, usage, end marker. Only once."""

    def fail(self, error: GatewayError) -> bytes:
        """Return the last words of an answer that ends in an error, b"" when it has ended already."""

    def follow(self, frame: Frame) -> bool:
        """Note a frame of this stream that an upstream of this dialect has written itself: `feed` is to go on after it, in the same
        blocks and under the same names. Tell whether it could. May raise for a frame of no known shape."""


class Dialect(Protocol):
    """One wire format of requests and answers. Stateless: one instance serves every stream."""

    @property
    def name(self) -> str:
        """What routes.yaml calls it."""

    @property
    def family(self) -> str:
        """Dialects of one family differ in addresses and credentials only: between them nothing is translated."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The doors it opens."""

    @property
    def models_paths(self) -> tuple[str, ...]:
        """The paths on which its clients ask for the list of models."""

    @property
    def facts(self) -> Mapping[str, bytes]:
        """What its clients ask by GET besides, to learn whom they speak to: the path, and the answer, always the same."""

    @property
    def usage_mark(self) -> bytes:
        """Bytes without which no frame can be a usage frame: a cheap question to ask of every read. Empty when none is ever injected."""

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:
        """Read a request; raises `core.errors.Rejected` when it is not one this endpoint can carry."""

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:
        """Return what an upstream of this dialect is sent for a call of this family: `model` instead of the one asked for (None keeps
        it), and usage asked for when `inject_usage` is set and the client was silent about it. Every other byte is the client's."""

    def injects_usage(self, call: Call) -> bool:
        """Tell whether asking the upstream for usage is ours to do: the answer is streamed and the client said nothing about it."""

    def credential(self, api_key: str) -> dict[str, str]:
        """Return the headers that carry an upstream's key."""

    def framing(self, call: Call) -> Framing:
        """Return how the stream that answers `call` is framed."""

    def reader(self, call: Call) -> Reader:
        """Return a new reader for the stream that answers `call`."""

    def read_document(self, call: Call, body: bytes) -> Sequence[Event]:
        """Return everything an answer in one piece says, its text and tool calls included. Raises as `Reader.events` does."""

    def read_error(self, status: int, body: bytes) -> Failed:
        """Return what an upstream's error answer says, in any body; never raises."""

    def is_usage_frame(self, frame: Frame) -> bool:
        """Tell whether a frame is exactly what our asking for usage added to the stream; never raises."""

    def refuses_usage(self, status: int, body: bytes) -> bool:
        """Tell whether an upstream's error answer is about our asking for usage."""

    @property
    def marks_end(self) -> bool:
        """Tell whether a stream has an end marker of its own after the reason for which it ends."""

    def complete(self, terminated: bool, finish: Sequence[str]) -> bool:
        """Tell whether a stream that has ended had come to its proper end."""

    def error_body(self, error: GatewayError) -> bytes:
        """Render an error as a response body."""

    def error_event(self, error: GatewayError, call: Call, begun: bool) -> bytes:
        """Render an error as the last words of the stream that answers `call` and that this dialect's writer has not written; `begun`
        says that something of it has been sent, keepalives aside."""

    def models_document(self, names: Sequence[str], created: int) -> bytes:
        """Render the list of models; `created` is Unix seconds."""

    def read_prompt(self, call: Call) -> Prompt:
        """Say a chat call in no dialect. Raises `core.errors.Rejected` that names the member no other dialect could be told."""

    def compose(self, prompt: Prompt) -> Call:
        """Make the call that asks the same of an upstream of this dialect, usage included. Raises `core.errors.Rejected` that names what
        this dialect cannot express; what it can do without is left out, and `unsaid` says what that is."""

    def unsaid(self, prompt: Prompt) -> Sequence[str]:
        """Name the members that `compose` leaves out, `Prompt.harmless` among them."""

    def prefills(self, prompt: Prompt) -> bool:
        """Tell whether the model of this call goes on with a last turn of its own, rather than refusing it or answering it."""

    def writer(self, call: Call, stamp: Stamp) -> Writer:
        """Return a new writer of the stream that answers a client's `call`."""

    def write_document(self, call: Call, events: Sequence[Event], stamp: Stamp) -> bytes:
        """Say a whole answer in one piece."""


Registry = Mapping[str, Dialect]
