"""What a worker tells the recorder about its streams, and the recorder's acknowledgement; msgpack over one local socket."""

from typing import Literal
from zlib import crc32

from msgspec import Struct

from gateway.core.owners import Blame
from gateway.core.record import State, StreamRecord

WorkerState = Literal["serving", "retiring", "draining"]
"""A retiring worker accepts no connections, a draining one no calls either."""


class Hello(Struct, frozen=True, tag=True):
    """The first word of either side after it starts: whatever the other side held of a predecessor is stale."""

    pid: int


class Begun(Struct, frozen=True, tag=True):
    """A stream's first target is being asked: its record so far, so that a worker's death can still be told as the end of each of its
    streams, and the state it is in."""

    record: StreamRecord
    state: State = "queue"


class Moved(Struct, frozen=True, tag=True):
    """A live stream changed state or upstream; `at` is monotonic seconds."""

    stream_id: str
    state: State
    upstream: str
    at: float


class Stalled(Struct, frozen=True, tag=True):
    """A live stream has been silent for longer than its route's threshold: told when noticed, not when over."""

    stream_id: str
    blame: Blame
    phase: str
    at: float


class Rejoined(Struct, frozen=True, tag=True):
    """A client has come back for its stream, which may be over already."""

    stream_id: str
    route: str


class Feedback(Struct, frozen=True, tag=True):
    """Somebody has said what they think of a stream's answer, of any worker's: `score` is -1, 0 or 1."""

    stream_id: str
    score: int
    comment: str | None = None


class Heard(Struct, frozen=True, tag=True):
    """Tokens of a live stream since it was last told of, told only while somebody looks on: when reads brought them (monotonic seconds),
    and how many each. `answer` is when the first one that is no reasoning came, None as long as none has."""

    stream_id: str
    times: list[float]
    many: list[int]
    answer: float | None = None


class Said(Struct, frozen=True, tag=True):
    """What was said on a stream that has ended, where that is kept: `core.content.Content` as msgpack, or the `part`-th part of it."""

    stream_id: str
    data: bytes
    part: int = 0
    last: bool = True


class Spoke(Struct, frozen=True, tag=True):
    """A piece of a live stream's answer, told only while somebody reads along; `at` is how many characters of its kind came before it."""

    stream_id: str
    kind: Literal["text", "reasoning"]
    at: int
    text: str


class Ended(Struct, frozen=True, tag=True):
    """A stream's final record. `seq` numbers these per worker process, for the acknowledgement."""

    seq: int
    record: StreamRecord


class TargetState(Struct, frozen=True):
    """What one worker thinks of one target: `ttft` is its estimate in seconds, `score` what the policy compares, the product of its
    `terms` (see gateway.routing.health); `refusal` says why it lets no call pass just now, "" when it does."""

    upstream: str
    model: str
    ttft: float | None
    score: float
    in_flight: int
    breaker: str
    since: float
    last_error: str | None = None
    terms: dict[str, float] = {}
    refusal: str = ""


class Pulse(Struct, frozen=True, tag=True):
    """A worker's heartbeat, once a second; `config` is the hash of the configuration that its new calls begin with."""

    pid: int
    at: float
    streams: int
    loop_lag: float
    oldest_gap: float
    dropped: dict[str, int]
    targets: list[TargetState]
    config: str = ""
    state: WorkerState = "serving"


class Ack(Struct, frozen=True, tag=True):
    """From the recorder: every `Ended` up to `seq` of the worker process `pid` is stored.

    The pid keeps a dead worker's acknowledgement, still waiting in the kernel, from being taken by the worker that replaced it.
    """

    pid: int
    seq: int


class Abort(Struct, frozen=True, tag=True):
    """From the recorder: an operator wants this live stream to end."""

    stream_id: str


class Watching(Struct, frozen=True, tag=True):
    """From the recorder: somebody looks on, so that every token is to be told of; or nobody does any more.

    With too many streams it is a `share` of them, which both sides know by their ids alone.
    """

    on: bool
    share: float = 1.0

    def shows(self, stream_id: str) -> bool:
        """Return whether this stream is among those that are shown."""
        return self.share >= 1.0 or crc32(stream_id.encode()) < self.share * 2**32


class Follow(Struct, frozen=True, tag=True):
    """From the recorder: somebody reads along with this live stream, from its beginning, or nobody does any more."""

    stream_id: str
    on: bool


FromWorker = Hello | Begun | Moved | Stalled | Heard | Rejoined | Feedback | Said | Spoke | Ended | Pulse
FromRecorder = Hello | Ack | Abort | Watching | Follow
