"""One look at everything, drawn as tables: pure, from what the admin API has answered to what rich prints."""

from datetime import datetime
from typing import Any

from msgspec import Struct, field
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from gateway.terminal.ink import BLAMES, seconds, share, word
from gateway.terminal.tracks import Track, Tracks

STYLES = {"amber": "yellow", "violet": "magenta", "red": "red", "teal": "cyan", "dim": "bright_black", "green": "green"}
STRIP = {"flow": "cyan", "waiting": "bright_black", "none": ""} | {blame: STYLES[colour] for blame, (_, colour) in BLAMES.items()}
BREAKERS = {"closed": "green", "half_open": "yellow", "open": "red"}
STEADY = 7
"""Steps of ten seconds of which the last, which is not over, is left out: the last minute."""
NARROW = {"model": 125, "last error": 105, ">share": 90, "route": 80}
"""From which width on a column of the upstreams is shown."""
FRAME = 4
"""Lines of a table beside its rows."""


class Look(Struct):
    """What was answered last: /healthz, /api/routes, /api/overview by route, and what the feed tells. `trouble` is why not."""

    url: str
    health: dict[str, Any] = field(default_factory=dict)
    routes: list[dict[str, Any]] = field(default_factory=list)
    overviews: dict[str, dict[str, Any]] = field(default_factory=dict)
    tracks: Tracks = field(default_factory=Tracks)
    trouble: str | None = None


class Board:
    """A look as rich prints it: as many lines as there are; on a screen (`full`) as many as fit."""

    def __init__(self, look: Look, full: bool) -> None:
        self._look, self._full = look, full

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        height = console.size.height if self._full else 10_000
        head = header(self._look, self._full)
        routes, upstreams = _route_rows(self._look), _upstream_rows(self._look)
        third = max(3, (height - len(head)) // 3)
        parts: list[Any] = [*head, _routes(routes[: third - FRAME + 1] if self._full else routes)]
        parts.append(_upstreams(upstreams[: third - FRAME + 1] if self._full else upstreams, console.size.width))
        used = len(head) + min(len(routes), third - FRAME + 1) + min(len(upstreams), third - FRAME + 1) + 2 * FRAME
        room = max(1, height - used - FRAME) if self._full else 40
        parts.append(_streams(self._look.tracks, room, console.size.width))
        yield Group(*parts)


def header(look: Look, full: bool) -> list[Text]:
    """Return the first line, and one for what is wrong."""
    health, now = look.health, datetime.now().astimezone().strftime("%H:%M:%S")
    lags = [worker["loop_lag"] for worker in health.get("workers", ()) if worker["loop_lag"] is not None]
    lost = sum(health.get("dropped", {}).values())
    line = Text.assemble(("Weir", "bold"), "  ", word(look.url), "  ")
    line.append("● ", "green" if health.get("status") == "ok" and look.trouble is None else "red")
    line.append(f"{_many(len(health.get('workers', ())), 'worker')}  {look.tracks.active} active  ")
    line.append(f"loop lag {seconds(max(lags, default=None)) or '-'}  ")
    line.append(f"dropped {lost}  ", "red" if lost else "")
    line.append(f"config {word(health.get('config_hash', ''))}  {now}")
    line.append("  q leaves" if full else "", "bright_black")
    wrong = look.trouble or (f"last reload refused: {health['last_reload_error']}" if health.get("last_reload_error") else None)
    return [line] if wrong is None else [line, Text(word(wrong), "red")]


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _routes(rows: list[list[Any]]) -> Table:
    return _table(rows, "route", ">streams/s", ">active", ">p50 TTFT", ">p95 TTFT", ">stalled", "by", ">left early")


def _upstreams(rows: list[list[Any]], width: int) -> Table:
    """Return upstreams; a narrow screen goes without what can be found elsewhere."""
    columns = [
        "upstream",
        "route",
        "model",
        ">active",
        ">share",
        ">p50",
        ">p95",
        ">stalled",
        "by",
        ">left",
        ">score",
        "breaker",
        "last error",
    ]
    hidden = {column for column, least in NARROW.items() if width < least}
    kept = [place for place, column in enumerate(columns) if column not in hidden]
    return _table([[row[place] for place in kept] for row in rows], *(columns[place] for place in kept))


def _table(rows: list[list[Any]], *columns: str) -> Table:
    """Return a table; a column whose name begins with ">" is aligned to the right."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", title=" ", title_style="")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row)
    return table


def _route_rows(look: Look) -> list[list[Any]]:
    active: dict[str, int] = {}
    for route in look.routes:
        active[route["name"]] = sum(seen["in_flight"] for target in route["targets"] for seen in target["seen"])
    rows: list[list[Any]] = []
    for name, overview in look.overviews.items():
        total, objective = overview["total"], overview["objective"]
        p95 = total["ttft_p95"]
        late = objective is not None and p95 is not None and p95 > objective
        rows.append(
            [
                word(name),
                f"{_rate(overview):.1f}",
                str(active.get(name, 0)),
                seconds(total["ttft_p50"]) or "-",
                Text((seconds(p95) or "-") + (" ▲" if late else ""), "yellow" if late else ""),
                share(total["stall_rate"]) or "-",
                _blamed(total["stalls_by"]),
                share(total["abort_rate"]) or "-",
            ]
        )
    return rows


def _rate(overview: dict[str, Any]) -> float:
    """Return streams a second over the last minute; over all the time there is while that is less."""
    step = overview["step"]
    if overview["covered"] < step * STEADY:
        return float(overview["total"]["rate"])
    return float(sum(point["streams"] for point in overview["points"][-STEADY:-1]) / (step * (STEADY - 1)))


def _blamed(stalls: dict[str, int]) -> Text:
    text = Text()
    for blame, (letter, colour) in BLAMES.items():
        if stalls.get(blame):
            text.append(f"{letter} {stalls[blame]} ", STYLES[colour])
    return text


def _upstream_rows(look: Look) -> list[list[Any]]:
    rows: list[list[Any]] = []
    for route in look.routes:
        for target in route["targets"]:
            names = [target["upstream"], route["name"]]
            rows += [_upstream_row(names, seen) for seen in target["seen"]] or [_unasked(names, target)]
    return rows


def _upstream_row(names: list[str], seen: dict[str, Any]) -> list[Any]:
    breaker = seen["breaker"].replace("_", " ")
    since = f" {seconds(seen['since'])}" if seen["breaker"] != "closed" else ""
    lately, trouble = seen["lately"], seen["trouble"]
    return [
        *map(word, names),
        word(seen["model"]),
        str(seen["in_flight"]),
        share(seen["share"]) or "-",
        seconds(lately["ttft_p50"]) or "-",
        seconds(lately["ttft_p95"]) or "-",
        share(lately["stall_rate"]) or "-",
        _blamed(lately["stalls_by"]),
        share(lately["abort_rate"]) or "-",
        seconds(seen["score"]),
        Text(breaker + since, BREAKERS.get(seen["breaker"], "")),
        word(f"{trouble['error']} {seconds(trouble['ago'])} ago" if trouble else seen["last_error"] or ""),
    ]


def _unasked(names: list[str], target: dict[str, Any]) -> list[Any]:
    return [*map(word, names), word(target["model"] or "as asked"), "0", *["-"] * 4, "", "-", "-", Text("never asked", "bright_black"), ""]


def _streams(tracks: Tracks, room: int, width: int) -> Table:
    """Return the running streams, the longest silence first; the strip takes what is left of the width."""
    found = tracks.longest_silent()
    shown = found[: room - 1] if len(found) > room else found
    strip = max(10, min(60, width - 76))
    columns = ["stream", "route", "upstream", "state", ">age", ">silent", f"last 30 s, {30 / strip:.1f} s a block"]
    now = tracks.now
    table = _table([_stream_row(track, now, strip) for track in shown], *columns)
    if left := tracks.active - len(shown):
        table.add_row(Text(f"and {left} more", "bright_black"))
    elif not found:
        table.add_row(Text("no stream runs just now", "bright_black"))
    return table


def _stream_row(track: Track, now: float, strip: int) -> list[Any]:
    letter, colour = BLAMES.get(track.blame or "", ("", "dim"))
    state = Text(track.state.replace("_", " "))
    if track.state == "stalled":
        state = Text(f"stalled {letter}", STYLES[colour])
    drawn = Text()
    for character, shows in track.strip(now, strip):
        drawn.append(character, STRIP.get(shows, ""))
    names = [word(track.id)[:8], word(track.route), word(track.upstream)]
    return [*names, state, seconds(max(0.0, now - track.received)), seconds(track.silence(now)), drawn]
