"""What was said on one stream, where its route keeps that: the request's body, the answer as it came together, and how fast it came."""

from msgspec import Struct, field

from gateway.core.answer import ToolCall

MAX_PROMPT = 256 * 1024
"""Bytes of a request's body that are kept."""
MAX_ANSWER = 1 << 20
"""Bytes of an answer that are kept, as UTF-8: text, reasoning, refusal and tool calls together."""


class Content(Struct, kw_only=True):
    """One stream's words; nothing else that Weir stores has any of them in it.

    `prompt` is the body as it came, base64 replaced by its size and hash (`core.blobs.lightened`), and cut at MAX_PROMPT when
    `prompt_cut`. `cuts` says how many characters (code points) of `text` there were after each arrival, in step with the record's
    `cadence.ticks`; `seams` after how many another upstream went on. `cut`: some of the answer is missing, for it was too long or could
    not be read.
    """

    prompt: bytes
    prompt_cut: bool = False
    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tools: list[ToolCall] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    seams: list[int] = field(default_factory=list)
    cut: bool = False


def drawn(trace_id: str, share: float) -> bool:
    """Tell whether a trace (32 hex digits) is in a sample of this share: every stream of a trace is, or none.

    The threshold is that of OpenTelemetry's probability sampling, on the last 7 bytes, so that equal shares draw the same traces.
    """
    return int(trace_id[-14:], 16) >= (1 - share) * 2**56
