"""The one account of one stream: opened guilty when a request is received, closed exactly once, told to every audience."""

from typing import Literal

from msgspec import Struct, field

from gateway.core.events import Usage
from gateway.core.owners import Blame

Outcome = Literal[
    "completed",
    "client_disconnect",
    "client_stalled",
    "upstream_error",
    "upstream_truncated",
    "upstream_stalled",
    "first_token_timeout",
    "guard_blocked",
    "operator_abort",
    "rejected",
    "shutdown",
    "gateway_error",
]
AttemptOutcome = Literal["won", "slow", "hedge_lost", "connect_error", "status", "error_event", "truncated", "stalled", "cancelled"]
Why = Literal["first", "fallback", "hedge", "retry", "resume"]
State = Literal["queue", "connect", "first_token", "hedging", "streaming", "stalled", "draining"]


class Attempt(Struct, kw_only=True):
    """One try at one target. Times are monotonic seconds; None is "never happened"."""

    upstream: str
    model: str
    why: Why
    provider: str = ""
    address: str = ""
    port: int = 0
    dialed_at: float
    sent_at: float | None = None
    headers_at: float | None = None
    first_event_at: float | None = None
    first_token_at: float | None = None
    ended_at: float | None = None
    status: int | None = None
    outcome: AttemptOutcome = "cancelled"
    error: str | None = None
    redialed: bool = False


class Stall(Struct, frozen=True):
    """A silence longer than the route's threshold: monotonic start, seconds, who held most of it, and after which chunk."""

    at: float
    length: float
    blame: Blame
    chunk: int


class Seam(Struct, frozen=True, kw_only=True):
    """Where another upstream went on with an answer: when the one before had failed (monotonic), and of what; after how many
    token-bearing events and characters of text; from which upstream to which."""

    at: float
    chunks: int
    characters: int
    source: str
    target: str
    why: str


class Cadence(Struct, kw_only=True):
    """How steadily a stream spoke.

    `chunks` counts token-bearing events, `arrivals` the reads that brought them; gaps lie between arrivals, since that is what
    a reader feels. `gaps` is [(upper bound in seconds, count)], only bins that hold something; the bound past the last is inf.
    `stalls` keeps the first ones and the longest, at most 16; `stall_count` and `stall_time` (seconds, by blame) count all.
    `ticks` are the steps from arrival to arrival in tenths of a millisecond, the first 0, of at most 4,096; `counts` says by place
    how many tokens an arrival brought where it was not one.
    """

    chunks: int = 0
    arrivals: int = 0
    gaps: list[tuple[float, int]] = field(default_factory=list)
    gap_sum: float = 0.0
    gap_p50: float | None = None
    gap_p95: float | None = None
    gap_max: float | None = None
    stalls: list[Stall] = field(default_factory=list)
    stall_count: int = 0
    stall_time: dict[Blame, float] = field(default_factory=dict)
    ticks: list[int] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    burst: bool = False


class Waits(Struct, kw_only=True):
    """How long answers of one session kept their listener waiting, in seconds: the first one, typical, longest.

    `bins` is [(upper bound, count)] over all of them, only bins that hold something; `total` is their sum.
    """

    first: float | None = None
    p50: float | None = None
    max: float | None = None
    total: float = 0.0
    bins: list[tuple[float, int]] = field(default_factory=list)


class Voice(Struct, kw_only=True):
    """What a realtime session said and heard; all times are seconds.

    `first_token` and `first_audio` wait from the moment an answer was asked for (`response.create`, or the end of the user's speech).
    `audio_in` and `audio_out` are seconds of sound. An underrun is a moment at which everything delivered of an answer had been played
    and more was to come. Token counts are those parts of the usage that were audio. `closed_by` is who ended the session, `close_code`
    the WebSocket code it said, None when its connection was lost.
    """

    responses: int = 0
    first_token: Waits = field(default_factory=Waits)
    first_audio: Waits = field(default_factory=Waits)
    audio_in: float = 0.0
    audio_out: float = 0.0
    underruns: int = 0
    underrun_time: float = 0.0
    interruptions: int = 0
    errors: int = 0
    last_error: str | None = None
    audio_input: int | None = None
    audio_cached: int | None = None
    audio_output: int | None = None
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    closed_by: Literal["client", "upstream", "gateway"] | None = None
    close_code: int | None = None


class StreamRecord(Struct, kw_only=True):
    """Everything Weir knows about one stream.

    Times are monotonic seconds, stamped at the upstream read; `received_unix` ties them to the wall clock (see `unix_ns`).
    `seconds` is the ledger: who owned each moment from received to ended, summing to the whole. `content` says that what was said is
    kept too, though never here (`core.content`).
    """

    stream_id: str
    trace_id: str
    span_id: str
    parent_id: str | None = None
    sampled: bool = True
    tracestate: str | None = None
    worker: int = 0

    dialect: str = ""
    operation: str = "chat"
    route: str = ""
    tenant: str = ""
    asked_model: str = ""
    served_model: str | None = None
    response_id: str | None = None
    streamed: bool = False
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    client_retry: int | None = None
    reconnects: int = 0
    tags: dict[str, str] = field(default_factory=dict)
    prompt_name: str | None = None
    prompt_version: str | None = None
    session_id: str | None = None
    content: bool = False

    received_unix: float
    received_at: float
    admitted_at: float | None = None
    committed_at: float | None = None
    first_write_at: float | None = None
    first_byte_at: float | None = None
    first_event_at: float | None = None
    first_token_at: float | None = None
    first_answer_at: float | None = None
    last_token_at: float | None = None
    ended_at: float | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    attempts: list[Attempt] = field(default_factory=list)
    winner: int | None = None
    fallback_reason: str | None = None
    outcome: Outcome = "gateway_error"
    error: str | None = None
    status: int | None = None
    finish: list[str] = field(default_factory=list)
    missing_done: bool = False
    usage: Usage | None = None
    bytes: int = 0
    cadence: Cadence = field(default_factory=Cadence)
    voice: Voice | None = None
    seams: list[Seam] = field(default_factory=list)
    mutations: dict[str, int] = field(default_factory=dict)
    parser_errors: dict[str, int] = field(default_factory=dict)

    @property
    def served(self) -> Attempt | None:
        """The attempt whose bytes the client got (`winner` is its place in `attempts`), or the last one tried when nobody spoke."""
        if self.winner is not None:
            return self.attempts[self.winner]
        return self.attempts[-1] if self.attempts else None

    @property
    def upstream(self) -> str:
        return served.upstream if (served := self.served) else ""

    @property
    def hedged(self) -> bool:
        return any(attempt.why == "hedge" for attempt in self.attempts)

    @property
    def stalled(self) -> bool:
        return self.cadence.stall_count > 0

    @property
    def ttft(self) -> float | None:
        """Seconds from request received to the first token, as the user feels it; None when no token came."""
        return None if self.first_token_at is None else self.first_token_at - self.received_at

    @property
    def duration(self) -> float | None:
        return None if self.ended_at is None else self.ended_at - self.received_at

    def unix_ns(self, at: float) -> int:
        """Return a monotonic time of this record as wall-clock nanoseconds; durations survive a stepped clock."""
        return int((self.received_unix + (at - self.received_at)) * 1e9)
