"""Every fault that Weir must survive: what goes wrong elsewhere, and, criterion by criterion, what Weir does instead."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Fault:
    """One way in which streams go wrong; `rules` are its criteria by their letters, the key "" when there is only one.

    `reasons` say, by the same letters, why a criterion is held by no test.
    """

    name: str
    elsewhere: str
    rules: dict[str, str]
    reasons: dict[str, str] = field(default_factory=dict)


SECTIONS = {
    "A": "Carrying bytes",
    "B": "Failing well",
    "C": "Choosing a target",
    "D": "Telling the truth about it",
    "E": "Memory and speed",
    "F": "Keeping secrets, keeping callers apart",
    "G": "Running it",
}

RELAY = (
    Fault(
        "A1",
        "a cut stream looks like a shorter answer",
        {
            "a": "what came is passed on verbatim, then one error event; never an end marker that was not sent",
            "b": "a lost connection and a quiet end without the end marker are told apart",
            "c": "half an event is not sent; when half of a huge one is out already, what follows cannot be taken for part of it",
            "d": "each dialect's own end is known: with it the answer is complete and nothing is added, without it never",
            "e": "on request a broken stream also ends as a visibly broken HTTP body; half a document always does",
            "f": "a finish reason without the end marker is complete where servers are known to leave it out, and marked",
        },
    ),
    Fault(
        "A2",
        "an error inside a 200 stream is taken for an answer",
        {
            "a": "it is relayed verbatim, is the stream's outcome, and counts against its target; 200 stays the status",
            "b": "an end marker after it makes no success of it",
            "c": "Responses: `failed` and `error` are errors, `incomplete` is an end with its reason",
            "d": "every provider's spelling is known: Ollama's line, llama.cpp's `error:` field, Google's status",
        },
    ),
    Fault("A3", "characters of several bytes break at read boundaries", {"": "no byte changes at any cut, and what is read is the same"}),
    Fault("A4", "one read is taken for one event", {"": "events are the same however reads tear and merge them"}),
    Fault(
        "A5",
        "comments, CR LF and odd fields are rewritten",
        {"": "whatever the framing allows is relayed as it came, and read by the standard"},
    ),
    Fault(
        "A6",
        "parsing and writing anew drops what a model does not know",
        {"": "calls and answers pass as bytes; only documented edits change them"},
    ),
    Fault(
        "A7",
        "compressed streams cannot be read, or lie about their encoding",
        {
            "a": "upstreams are asked for no encoding, whatever the client takes",
            "b": "gzip that comes anyway is opened block by block, seen, and told as what it then is",
            "c": "an unknown encoding passes untouched, and telemetry says that it was not read",
        },
    ),
    Fault(
        "A8",
        "a hop gathers events and delivers them in bursts",
        {
            "a": "headers tell every hop not to buffer, cache or pack",
            "b": "each event goes out as it comes",
            "c": "a burst that came so from upstream is marked as one",
            "d": "the same through a reverse proxy in front",
        },
        {"d": "no reverse proxy where the tests run; the headers of A8a are what nginx and CDNs go by"},
    ),
    Fault(
        "A9",
        "idle timeouts on the way cut a stream that is still thinking",
        {
            "a": "a waiting client hears a keepalive, before the first event and between events",
            "b": "never inside an event",
            "c": "it counts as nothing: no token, no gap, no sign of life of the upstream",
            "d": "in the dialect's own way, and not at all where there is none",
            "e": "a quick failure keeps its status; one that comes after a keepalive is an error event",
        },
    ),
    Fault(
        "A10",
        "usage asked for by the gateway reaches clients that break on it",
        {
            "a": "asked for on the client's behalf, learned, and exactly that frame taken out",
            "b": "a client that wants none gets its call through untouched, and usage is unknown, not 0",
            "c": "a client that asks gets everything",
            "d": "an upstream that refuses to be asked is asked again without, and remembered",
            "e": "usage beside anything else stays",
            "f": "chunks without choices that are no usage stay",
        },
    ),
    Fault(
        "A11",
        "tool-call deltas are overlooked, or trip parsers",
        {"": "they are tokens: first token, progress and account, whatever their index"},
    ),
    Fault(
        "A12",
        "one huge event ends the stream or fills memory",
        {"": "relayed in bounded memory; what is too large to be read is skipped and counted"},
    ),
    Fault(
        "A13",
        "a total timeout kills long answers",
        {"": "connect, first token, liveness and progress each have a limit; the whole has none"},
    ),
    Fault(
        "A14",
        "a call with a picture is refused at 1 MiB",
        {"": "20 MiB by default; above the limit 413 in the caller's dialect, before any upstream call"},
    ),
    Fault(
        "A15",
        "a failure before the first byte becomes 200 and an error event",
        {
            "a": "an upstream's status, body and Retry-After are the client's",
            "b": "an error as first event is the status it means, or the next target's turn",
            "c": "a document in answer to a call for a stream is passed on as what it is",
        },
    ),
    Fault("A16", "one malformed event ends the stream, or vanishes", {"": "passed on, counted once, and the stream goes on"}),
    Fault("A17", "a client that closes at the end counts as an abort", {"": "who leaves after the proper end has its answer: completed"}),
)

FALLBACK = (
    Fault(
        "B1",
        "a client leaves and its upstream call runs on, and costs",
        {
            "a": "closed at once: before the upstream's headers",
            "b": "after headers, before the first token",
            "c": "in the middle of the stream",
            "d": "while the client takes no bytes",
            "e": "during a fallback",
            "f": "in a document",
        },
    ),
    Fault(
        "B2",
        "any byte puts off the first-token deadline",
        {"": "only a token meets it; then the next target answers, and nothing of the first is seen"},
    ),
    Fault(
        "B3",
        "the first chunk commits to a target that then fails",
        {"": "everything before the first token is held while another target is left"},
    ),
    Fault(
        "B3b",
        "the hold delays streams that have no alternative",
        {"": "nothing is held for nobody, and never more than 64 KiB or 64 reads"},
    ),
    Fault(
        "B4",
        "fallback in mid-stream joins two answers",
        {"": "after a token there is no other target, unless resuming was asked for; a caller may forbid fallback"},
    ),
    Fault(
        "B5",
        "one idle timer for two meanings",
        {"": "liveness is for any byte, progress for tokens; while the client does not read neither runs"},
    ),
    Fault(
        "B6", "clients that abort open the breaker", {"": "what is the client's own doing changes no target's health, a probe's included"}
    ),
    Fault("B7", "slots and in-flight counts leak", {"": "in whatever way a stream ends, nothing of it is counted any more"}),
    Fault("B8", "a pooled connection that has just closed is an error", {"": "replaced once, if not a byte has come; nobody is blamed"}),
    Fault("B9", "a deploy cuts streams", {"": "no new calls, running ones run on; at the deadline each is told why it ends"}),
    Fault(
        "B10",
        "retries multiply; Retry-After is ignored",
        {"": "a budget bounds extra calls; a target that asked for time gets it, or the client is told"},
    ),
    Fault(
        "B11",
        "a hedge is won by a byte, or by an error",
        {"": "the first token wins; the loser is closed, not blamed; hedges have a limit"},
    ),
    Fault(
        "B12",
        "nobody knows who answered",
        {"": "headers and record name target, attempts and reasons; the answer's model is the upstream's word"},
    ),
    Fault(
        "B13",
        "a lost connection and a pressed stop look alike",
        {"": "a route or a call may have its answer finished for a client that may come back"},
        {"": "the upstream call ends with its client, which is the default that the rule asks for (B1)"},
    ),
)

ROUTING = (
    Fault("C1", "long answers look like slow targets", {"": "the score is time to first token, whatever the length of the answer"}),
    Fault(
        "C2",
        "every call runs to the current best",
        {
            "a": "equal targets share evenly under load",
            "b": "a new target gets calls at once, and not too many",
            "c": "one that has recovered is found out",
            "d": "of equals the less busy goes first",
        },
    ),
    Fault(
        "C3",
        "quick errors look fast, timeouts vanish",
        {"": "failures give no sample; a wait cut short counts as at least its length, and fades"},
    ),
    Fault(
        "C4", "long prompts make a target look slow", {"": "samples are kept by target and model, and by size where `prompt_sizes` says so"}
    ),
    Fault("C5", "a slow reader makes a target look slow", {"": "times are those of the upstream read"}),
)

TELEMETRY = (
    Fault(
        "D1",
        "the first chunk is taken for the first token",
        {"": "role, pings and empty chunks are none; reasoning and tool calls are; no token, no time"},
    ),
    Fault(
        "D1b", "time to first token is missing, or the whole, on some routes", {"": "the same script gives the same times in every dialect"}
    ),
    Fault(
        "D2",
        "tracing context leaks out of generators",
        {"": "spans are built from records, in another process: there is no context to leak"},
    ),
    Fault("D3", "spans never end, or end early", {"": "one span for every call, whatever its outcome, over its whole life"}),
    Fault(
        "D3b",
        "duplicate and orphaned spans",
        {"": "the caller's trace goes on; upstreams that take it see our span as parent; nonsense begins a new one"},
    ),
    Fault("D4", "usage and cost are wrong", {"": "each provider's way of counting is known; what was not said is absent"}),
    Fault("D5", "aborted streams cost nothing", {"": "what was learned before the abort is kept and marked as partial, never 0"}),
    Fault(
        "D6",
        "a stream that failed after 200 is a success",
        {"": "outcomes sum to the calls; a failed stream is an ERROR with its 200 kept"},
    ),
    Fault(
        "D7",
        "latency histograms hold what never happened",
        {"": "no token, no sample; one token, no gap; durations from a monotonic clock"},
    ),
    Fault("D8", "nobody sees stalls", {"": "each is counted when it is noticed, once, with its owner; pings do not split it"}),
    Fault("D9", "buckets end too low", {"": "to 300 s and 900 s, thresholds of the configuration among them"}),
    Fault("D10", "attribute names drift", {"": "names and values are those of the documented conventions"}),
    Fault("D11", "running streams cannot be seen", {"": "listed while they run, with state, age and silence"}),
    Fault("D12", "callers learn no timing", {"": "`Server-Timing` and headers at the commit; the gateway's own share is measured"}),
)

LOAD = (
    Fault(
        "E1",
        "slow readers fill the gateway's memory",
        {"a": "the upstream waits for the client", "b": "a client that takes nothing is dropped, and called so"},
    ),
    Fault("E2", "buffering costs the square of an event's size", {"": "work is linear, whatever the reads"}),
    Fault("E3", "a pool's hidden limit makes streams queue", {"": "limits are said, waits measured, and nothing is left open"}),
    Fault(
        "E4",
        "telemetry stalls or breaks the relay",
        {"": "dead collectors, full disks and broken readers cost telemetry, counted, and no byte"},
    ),
    Fault(
        "E5", "the gateway's own delay is unknown", {"": "a committed benchmark measures it against a direct connection in the same run"}
    ),
)

SECRETS = (
    Fault(
        "F1", "credentials are forwarded or logged", {"": "the caller's stay here, the upstream's go nowhere else, on good paths and bad"}
    ),
    Fault("F2", "metrics and admin stand open", {"": "a listener of their own, with a token; upstreams come from the configuration alone"}),
    Fault("F3", "clients' strings become labels", {"": "labels are bounded by the configuration"}),
    Fault("F4", "callers see each other's answers", {"": "nothing is shared between streams, and nothing is cached"}),
    Fault("F5", "prompts are captured", {"": "no content in spans, logs, metrics or errors unless asked for"}),
    Fault("F6", "header and event injection, smuggling", {"": "control characters make no header and no event; two lengths are refused"}),
)

RUNNING = (
    Fault(
        "G1", "alerts are noisy or NaN", {"": "rules are tested: they fire on what matters, not on three slow calls at night, and resolve"}
    ),
    Fault("G2", "dashboards show no data", {"": "every metric and label they name is there after a run"}),
    Fault("G3", "several workers, several truths", {"": "one registry: counts are exact on every scrape"}),
    Fault(
        "G4",
        "a bad reload breaks the gateway",
        {"": "the old configuration stays, and the error is told with its place; a good one takes over whole"},
    ),
    Fault("G5", "disconnects fill the log with tracebacks", {"": "a client that leaves is a line, not an error"}),
    Fault("G6", "a fix lands on one path only", {"": "the matrix runs over every dialect, and a door without one cannot be opened"}),
    Fault(
        "G7",
        "WebSockets hang or bypass telemetry",
        {"": "realtime is carried as one account a session; elsewhere an upgrade gets a clear refusal"},
    ),
)

FAULTS = (*RELAY, *FALLBACK, *ROUTING, *TELEMETRY, *LOAD, *SECRETS, *RUNNING)
RULES = {fault.name + letter: fault for fault in FAULTS for letter in fault.rules}
"""Every entry that a test can be marked with, and the fault that it is a criterion of."""
