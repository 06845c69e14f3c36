"""`weir replay` to the terminal: an answer as it came, token by token at its own speed, its silences named, and its figures."""

import sys
import time
from collections.abc import Callable, Iterator

from msgspec import Struct

from gateway.terminal.ink import BLAMES, OUTCOMES, Ink, plain, seconds, word
from gateway.terminal.recording import UNKNOWN, Arrival, Pause, Recording


class Said(Struct, frozen=True):
    """Something to print `at` seconds after the request was received."""

    at: float
    text: str
    colour: str | None = None


def played(recording: Recording) -> Iterator[Said]:
    """Yield everything that is printed between the first line and the last, in its order."""
    stalls = sorted(recording.stalls, key=lambda stall: stall.at)
    for arrival in recording.arrivals:
        while stalls and stalls[0].at + stalls[0].length <= arrival.at + 0.001:
            yield from _stall(stalls.pop(0))
        yield _token(arrival, recording.captured)
    for stall in stalls:
        yield from _stall(stall)


def _stall(stall: Pause) -> Iterator[Said]:
    """A silence says who holds it when it begins, and its length when it is over."""
    letter, colour = BLAMES[stall.blame]
    yield Said(stall.at, f" [stall {letter} ", colour)
    yield Said(stall.at + stall.length, f"{seconds(stall.length)}, {stall.blame}] ", colour)


def _token(arrival: Arrival, captured: bool) -> Said:
    colour = "dim" if arrival.kind == "reasoning" else None
    if arrival.text is not None:
        return Said(arrival.at, plain(arrival.text), colour)
    return Said(arrival.at, "" if captured else UNKNOWN * arrival.tokens, colour or "teal")


def title(recording: Recording, speed: float) -> str:
    """Return the first line or lines: whose stream it is, and what is not known of it."""
    record = recording.record
    tried = f" after {len(record.attempts) - 1} other attempt{'s' if len(record.attempts) > 2 else ''}" if len(record.attempts) > 1 else ""
    names = f"{word(record.asked_model) or '-'} from {word(record.upstream) or '-'}{tried}"
    lines = [f"{word(record.stream_id)}  {word(record.route) or '-'}  {names}  speed {speed:g}"]
    if not recording.arrivals and record.streamed:
        lines.append("it never said a token")
    elif not record.streamed:
        lines.append("it came in one piece: there is nothing to see of how it was made")
    elif not recording.captured:
        lines.append(f"what it said was not stored (routes say so by `content`): each {UNKNOWN} is one token")
    if 0 < recording.kept < len(recording.arrivals):
        lines.append(f"only the first {recording.kept} arrivals were kept: the rest is spread evenly")
    return "\n".join(lines)


def figures(recording: Recording, ink: Ink) -> str:
    """Return the last line."""
    record, cadence = recording.record, recording.record.cadence
    first = record.ttft if record.streamed else None
    stalled = ", ".join(f"{seconds(length)} {blame}" for blame, length in cadence.stall_time.items())
    parts = [
        f"ttft {seconds(first) or '-'}",
        f"gap p50 {seconds(cadence.gap_p50) or '-'}, p95 {seconds(cadence.gap_p95) or '-'}",
        f"stalls {cadence.stall_count}" + (f" ({stalled})" if stalled else ""),
        f"{cadence.chunks} chunks in {seconds(recording.ended)}",
        ink(record.outcome, OUTCOMES.get(record.outcome, "red")) + (f" ({word(record.error)})" if record.error else ""),
    ]
    return "  ".join(parts)


def play(recording: Recording, speed: float, sleep: Callable[[float], None] = time.sleep) -> None:
    """Print one stream, `speed` times as fast as it was."""
    ink, out, began = Ink(), sys.stdout, time.monotonic()

    def until(at: float) -> None:
        if (wait := began + at / speed - time.monotonic()) > 0:
            out.flush()
            sleep(wait)

    out.write(ink(title(recording, speed), "dim") + "\n")
    for said in played(recording):
        until(said.at)
        out.write(ink(said.text, said.colour))
    until(recording.ended)
    for tool in recording.tools:
        out.write("\n" + ink(f"tool call {word(tool.name)}: {plain(tool.arguments)}", "blue"))
    out.write("\n" + figures(recording, ink) + "\n")
    out.flush()
