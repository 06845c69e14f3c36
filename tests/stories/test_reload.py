"""Stories of change while it runs: a file read again, good or bad, by signal, by itself or by request; and workers that are replaced."""

import asyncio
import os
import re
import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson

from gateway.sim.faults import Always, ByModel
from gateway.sim.tempers import INSTANT, Temper
from tests.rig.held import Held
from tests.stories.conftest import PATIENCE

Fixture = Callable[..., Any]
BAD = """version: 1
server: {port: 0}
admin: {port: 0}
upstreams:
  a: {base_url: nowhere}
routes: [{name: chat, match: {models: ["*"]}, targets: [{upstream: a}]}]
"""
TRIES = 6
"""Rounds of a test that is quicker than what it looks at, but for a machine that is busy with something else."""


def written(gateway: Any, change: Callable[[dict[str, Any]], Any]) -> None:
    """Write the gateway's file anew, changed; in place of the old one, as careful editors do."""
    file = folder(gateway) / "routes.yaml"
    config = orjson.loads(file.read_bytes())
    change(config)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(orjson.dumps(config))
    fresh.replace(file)


def folder(gateway: Any) -> Path:
    return Path(f"/proc/{gateway.pid}/cwd").readlink()


def to(name: str, url: str) -> Callable[[dict[str, Any]], None]:
    """Return the change that makes this upstream the only one."""

    def change(config: dict[str, Any]) -> None:
        config["upstreams"] = {name: {"base_url": url}}
        config["routes"][0]["targets"] = [{"upstream": name}]

    return change


def processes(gateway: Any, name: str) -> list[int]:
    """Return the living processes of a gateway that have this name; one may have died since it was listed."""
    return [pid for pid in gateway.living() if named(pid) == name]


def named(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


async def hashes(gateway: Any) -> set[str]:
    """Return what recorder and workers run: one hash when all agree."""
    health = await gateway.ask("/healthz")
    return {health["config_hash"], *(worker["config_hash"] for worker in health["workers"])} if health else set()


async def post(gateway: Any, path: str, **more: Any) -> httpx.Response:
    headers = more.pop("headers", {"Content-Type": "application/json"})
    async with httpx.AsyncClient(base_url=gateway.admin_url, timeout=PATIENCE, trust_env=False) as http:
        return await http.post(path, headers=headers, **more)


async def switched(gateway: Any, before: set[str], eventually: Fixture) -> str:
    """Wait until recorder and workers run one other configuration than before, and return its hash."""

    async def other() -> str:
        now = await hashes(gateway)
        return next(iter(now)) if len(now) == 1 and now != before else ""

    return str(await eventually(other, "all run another configuration"))


async def test_a_bad_file_changes_nothing_and_is_told(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """After SIGHUP with a bad file the old one serves; log, metric and /healthz say what is wrong and where, until one is good (G4)."""
    gateway = await weir({"a": await provide()})
    before, file = await hashes(gateway), folder(gateway) / "routes.yaml"
    good = file.read_bytes()
    file.write_text(BAD)
    os.kill(gateway.pid, signal.SIGHUP)

    async def error() -> str:
        return (await gateway.ask("/healthz"))["last_reload_error"] or ""

    told = await eventually(error, "/healthz tells the error")
    assert told.startswith("routes.yaml:5:")
    assert "not reloaded: routes.yaml:5:" in gateway.err
    assert (await gateway.scrape()).sum("weir_reload_failed_total") == 1
    assert await hashes(gateway) == before
    assert (await client(gateway).ask()).status == 200
    refused = await post(gateway, "/api/reload")
    assert (refused.status_code, refused.json()["config_hash"]) == (422, next(iter(before)))
    assert refused.json()["problems"][0].startswith("routes.yaml:5:")
    file.write_bytes(good)
    again = await post(gateway, "/api/reload")
    assert (again.status_code, again.json()) == (200, {"config_hash": next(iter(before)), "changed": False})
    assert (await gateway.ask("/healthz"))["last_reload_error"] is None


async def test_a_good_file_switches_under_live_streams(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """Twenty streams end whole on the old upstream, every later call takes the new one, whose series replace the old one's (G4)."""
    held = Held()
    old, new = await provide(faults=Always(held.script)), await provide()
    gateway = await weir({"old": old}, server={"workers": 2})
    mine, before = client(gateway), await hashes(gateway)
    streams = asyncio.get_running_loop().create_task(mine.many(20, 20))
    await gateway.speaking(20)
    written(gateway, to("new", new.base_url))
    os.kill(gateway.pid, signal.SIGHUP)
    after = await switched(gateway, before, eventually)
    for answer in await mine.many(10, 5):
        assert (answer.status, answer.headers["x-weir-upstream"]) == (200, "new")
    assert not streams.done()
    held.release()
    for answer in await streams:
        assert (answer.headers["x-weir-upstream"], answer.broken, answer.body in held.bodies) == ("old", False, True)
    assert (old.total, new.total) == (20, 10)
    await gateway.told(30)

    async def settled() -> bool:
        return not (await gateway.scrape()).all("weir_streams_active", upstream="old")

    await eventually(settled, "the old upstream has no gauge any more")
    scrape = await gateway.scrape()
    assert scrape.all("weir_breaker_state", upstream="old") == []
    assert scrape.all("weir_upstream_score_seconds", upstream="old") == []
    assert scrape.all("weir_streams_active", upstream="new") == [0]
    assert scrape.all("weir_config_info", hash=after) == [1]
    assert len(scrape.all("weir_config_info")) == 1
    assert (scrape.sum("weir_streams_total", upstream="old"), scrape.sum("weir_streams_total", upstream="new")) == (20, 10)
    [route] = (await gateway.ask("/api/routes"))["routes"]
    assert [target["upstream"] for target in route["targets"]] == ["new"]
    assert f"reloaded: config {after}" in gateway.err


async def test_a_changed_file_is_noticed(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """Without a signal; also when a link to it is turned, as Kubernetes updates a mounted ConfigMap."""
    one, two, three = await provide(), await provide(), await provide()
    gateway = await weir({"one": one})
    before = await hashes(gateway)
    written(gateway, to("two", two.base_url))
    second = await switched(gateway, before, eventually)
    assert (await client(gateway).ask()).headers["x-weir-upstream"] == "two"
    place = folder(gateway)
    for name, target in (("v1", "two"), ("v2", "three")):
        (place / name).mkdir()
        config = orjson.loads((place / "routes.yaml").read_bytes())
        to(target, {"two": two, "three": three}[target].base_url)(config)
        (place / name / "routes.yaml").write_bytes(orjson.dumps(config))
    (place / "data").symlink_to("v1")
    (place / "link.yaml").symlink_to("data/routes.yaml")
    (place / "link.yaml").replace(place / "routes.yaml")
    (place / "data.new").symlink_to("v2")
    (place / "data.new").replace(place / "data")
    await switched(gateway, {second}, eventually)
    assert (await client(gateway).ask()).headers["x-weir-upstream"] == "three"


async def test_a_process_that_could_not_take_it_on_gets_it_again(
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """Worker and recorder have no file descriptor free for the new file, and say so; SIGHUP sends them the same file once more (G4)."""
    old, new = await provide(), await provide()
    gateway = await weir({"old": old})
    before, told = await hashes(gateway), "SIGHUP sends it again"
    poor = [pid for name in ("weir-worker", "weir-recorder") for pid in processes(gateway, name)]
    limits = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in poor}
    for pid, (_, most) in limits.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, most))
    written(gateway, to("new", new.base_url))
    os.kill(gateway.pid, signal.SIGHUP)
    await eventually(lambda: gateway.err.count(told) == len(poor) == 2, "both say so")
    for pid, limit in limits.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limit)
    assert (await client(gateway).ask()).headers["x-weir-upstream"] == "old"
    assert await hashes(gateway) == before
    os.kill(gateway.pid, signal.SIGHUP)
    await switched(gateway, before, eventually)
    assert (await client(gateway).ask()).headers["x-weir-upstream"] == "new"


async def test_what_needs_a_restart_is_said_and_refused_whole(weir: Fixture, provide: Fixture) -> None:
    """A file that also changes what is fixed at the start changes nothing; the keys are named, the values are not."""
    gateway = await weir({"a": await provide()})
    before = await hashes(gateway)

    def change(config: dict[str, Any]) -> None:
        config["server"] |= {"port": 1, "workers": 3, "keepalive": "5s"}
        config["telemetry"]["otlp"] = {"endpoint": "http://127.0.0.1:1", "headers": {"Authorization": "Bearer sesame"}}

    written(gateway, change)
    refused = await post(gateway, "/api/reload")
    assert refused.status_code == 422
    keys = "server.port, server.workers, telemetry.otlp.endpoint, telemetry.otlp.headers"
    assert refused.json()["problems"] == [f"routes.yaml: cannot be changed while running: {keys}; restart Weir for it"]
    assert await hashes(gateway) == before
    assert "sesame" not in gateway.err


async def test_what_a_page_elsewhere_could_send_reloads_nothing(weir: Fixture, provide: Fixture) -> None:
    """A form cannot say Content-Type: application/json, and a script elsewhere may not without asking first; GET is no door."""
    gateway = await weir({"a": await provide()})
    for kind in ("application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"):
        assert (await post(gateway, "/api/reload", headers={"Content-Type": kind})).status_code == 415
    assert (await post(gateway, "/api/reload", headers={"Host": "evil.example", "Content-Type": "application/json"})).status_code == 403
    assert (await gateway.ask("/api/reload"))["error"]
    assert "reload" not in gateway.err


async def test_several_requests_at_once_are_one_reload(weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """Whoever asks while a reload is due gets its result; the log tells of it once."""
    gateway = await weir({"a": await provide()})
    told = [0]
    while len(told) <= TRIES:  # asked one after the other by a busy machine, they are several
        for _ in range(20):
            os.kill(gateway.pid, signal.SIGHUP)
        answers = await asyncio.gather(*(post(gateway, "/api/reload") for _ in range(5)))
        assert {answer.status_code for answer in answers} == {200}
        told.append(gateway.err.count("nothing to reload"))
        if 1 <= told[-1] - told[-2] <= 2:
            return
    raise AssertionError(told)


async def test_without_a_file_a_reload_says_so(weir: Fixture) -> None:
    """The demo's configuration is in no file."""
    gateway = await weir(command=["demo", "--port", "0", "--admin-port", "0"])
    answer = await post(gateway, "/api/reload")
    assert answer.status_code == 409
    assert "without" in answer.json()["error"]


async def test_an_operator_ends_a_stream_over_the_admin_api(
    weir: Fixture, provide: Fixture, client: Fixture, collector: Any, eventually: Fixture
) -> None:
    """202 for a live stream, which ends in its dialect's error event; 404 for any other. Its span is no error."""
    gateway = await weir({"a": await provide(faults=Always(Held().script))}, telemetry={"otlp": {"endpoint": collector.url}})
    stream = asyncio.get_running_loop().create_task(client(gateway).ask())
    [row] = await gateway.speaking()
    assert (await post(gateway, f"/api/streams/{row['stream_id']}/abort")).status_code == 202
    answer = await stream
    assert orjson.loads(answer.body.split(b"\n\n")[-2].removeprefix(b"data: "))["error"]["code"] == "operator_abort"
    [ended] = await gateway.told(1)
    assert ended["outcome"] == "operator_abort"
    assert (await post(gateway, f"/api/streams/{row['stream_id']}/abort")).status_code == 404
    assert (await gateway.scrape()).sum("weir_streams_total", outcome="operator_abort") == 1
    [span] = await eventually(lambda: collector.spans, "its span is sent")
    assert (collector.attributes(span)["weir.outcome"], span.status.code) == ("operator_abort", 0)


def deaf(pid: int) -> bool:
    """Tell whether a process lets SIGHUP and SIGUSR2 wait."""
    [mask] = re.findall(r"SigBlk:\s*([0-9a-f]+)", Path(f"/proc/{pid}/status").read_text())
    return all(int(mask, 16) >> (number - 1) & 1 for number in (signal.SIGHUP, signal.SIGUSR2))


async def test_signals_that_come_before_it_is_up_wait(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """In its first moments, while the program is read in, SIGHUP and SIGUSR2 end nothing: both are acted on as soon as it can (G4)."""
    sent = list[str]()

    async def signals(gateway: Any) -> None:
        await eventually(lambda: deaf(gateway.pid), "the process is deaf")
        for number in (signal.SIGHUP, signal.SIGUSR2):
            os.kill(gateway.pid, number)
        sent.append(gateway.out)

    while "" not in sent:  # it had said nothing yet
        assert len(sent) < TRIES, sent
        gateway = await weir({"a": await provide()}, early=signals)
    await eventually(lambda: "nothing to reload" in gateway.err, "the file is read again")
    await eventually(lambda: "which leaves when its streams have ended" in gateway.err, "its worker is replaced")
    assert (await client(gateway).ask()).status == 200
    assert gateway.process.poll() is None


# Workers that are replaced.


async def test_workers_are_replaced_under_traffic_and_no_call_is_lost(
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """Clients that keep their connections see nothing of it; every call is counted once, and nobody is called degraded."""
    provider = await provide(temper=Temper(ttft=0.01, gap="5ms", tokens=10))
    gateway = await weir({"a": provider}, server={"workers": 2})
    before, mine = set(await gateway.workers()), [client(gateway) for _ in range(4)]
    answers: list[Any] = []
    over = False

    async def calling(one: Any) -> None:
        while not over:
            answers.append(await one.ask())

    statuses: set[str] = set()

    async def replaced() -> bool:
        health = await gateway.ask("/healthz")
        statuses.add(health.get("status", "ok"))
        pids = {worker["pid"] for worker in health.get("workers", [])}
        return len(pids) == 2 and not pids & before

    callers = [asyncio.get_running_loop().create_task(calling(one)) for one in mine for _ in range(2)]
    await asyncio.sleep(0.3)
    os.kill(gateway.pid, signal.SIGUSR2)
    await eventually(replaced, "two other workers serve, and no third is heard of")
    over = True
    await asyncio.gather(*callers)
    assert {(answer.status, answer.broken, answer.body.endswith(b"data: [DONE]\n\n")) for answer in answers} == {(200, False, True)}
    rows = await gateway.told(len(answers))
    assert {row["outcome"] for row in rows} == {"completed"}
    assert (await gateway.scrape()).sum("weir_streams_total") == len(answers) == provider.total
    assert statuses == {"ok"}
    await eventually(lambda: len(gateway.living()) == 4, "nobody else is left")


async def test_a_replaced_worker_stays_for_its_stream(weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture) -> None:
    """It lets its stream end, whatever that takes; connections that idle it closes, and new ones it leaves to its successor."""
    held = Held()
    gateway = await weir({"a": await provide(faults=Always(held.script))})
    [first] = await gateway.workers()
    stream = asyncio.get_running_loop().create_task(client(gateway).ask())
    idle, kept = await asyncio.open_connection(*gateway.address)
    kept.write(b"GET /livez HTTP/1.1\r\nHost: w\r\n\r\n")
    await idle.readuntil(b'"alive"}')
    await gateway.speaking()
    os.kill(gateway.pid, signal.SIGUSR2)

    async def states() -> dict[int, str]:
        return {worker["pid"]: worker["state"] for worker in (await gateway.ask("/healthz")).get("workers", [])}

    async def retiring() -> bool:
        now = await states()
        return now.get(first) == "retiring" and "serving" in now.values()

    await eventually(retiring, "one retires, one serves")
    async with asyncio.timeout(PATIENCE):
        assert await idle.read() == b""
    kept.close()
    held.release()
    assert (await stream).body in held.bodies

    async def alone() -> bool:
        return list((await states()).values()) == ["serving"]

    await eventually(alone, "the first has left")
    assert first not in gateway.living()


async def test_a_worker_told_to_leave_is_followed_at_once(
    weir: Fixture, provide: Fixture, client: Fixture, speech: Fixture, eventually: Fixture
) -> None:
    """SIGTERM to one worker drains that one: its stream ends, calls meanwhile are served by another, none is refused."""
    held, (body, script) = Held(), speech(100, 0.02)
    gateway = await weir({"a": await provide(faults=ByModel({"held": held.script, "m": script}))}, server={"drain": "60s"})
    [first] = await gateway.workers()
    stream = asyncio.get_running_loop().create_task(client(gateway).ask("held"))
    await gateway.speaking()
    os.kill(first, signal.SIGTERM)
    answers = await client(gateway).many(5, 5)
    assert {(answer.status, answer.body) for answer in answers} == {(200, body)}
    assert not stream.done()
    held.release()
    assert (await stream).body in held.bodies

    async def followed() -> bool:
        now = await gateway.workers()
        return len(now) == 1 and now != [first]

    await eventually(followed, "another is in its place")
    assert {row["outcome"] for row in await gateway.told(6)} == {"completed"}


async def test_a_worker_killed_between_two_reloads_comes_back_with_the_newest(
    weir: Fixture, provide: Fixture, client: Fixture, eventually: Fixture
) -> None:
    """Whatever the order of deaths and reloads, who is forked later begins with what the file said last."""
    providers = {f"u{number}": await provide(temper=INSTANT) for number in range(6)}
    gateway = await weir({"u0": providers["u0"]}, server={"workers": 2})
    for number in range(1, 6):
        name = f"u{number}"
        written(gateway, to(name, providers[name].base_url))
        os.kill((await eventually(lambda: processes(gateway, "weir-worker"), "a worker lives"))[0], signal.SIGKILL)
        os.kill(gateway.pid, signal.SIGHUP)

    async def agreed() -> bool:
        health = await gateway.ask("/healthz")
        return health["status"] == "ok" and len(await hashes(gateway)) == 1 and len(health["workers"]) == 2

    await eventually(agreed, "all run one configuration")
    assert (await post(gateway, "/api/reload")).json()["changed"] is False
    assert {answer.headers["x-weir-upstream"] for answer in await client(gateway).many(10, 5)} == {"u5"}


async def test_a_recorder_that_died_knows_the_newest_configuration(weir: Fixture, provide: Fixture, eventually: Fixture) -> None:
    """It is forked with it, and no process that has left for good makes it call the gateway degraded."""
    new = await provide()
    gateway = await weir({"a": await provide()})
    before, [worker] = await hashes(gateway), await gateway.workers()
    written(gateway, to("b", new.base_url))
    after = await switched(gateway, before, eventually)
    os.kill(gateway.pid, signal.SIGUSR2)

    async def replaced() -> bool:
        now = await gateway.workers()
        return len(now) == 1 and now != [worker]

    await eventually(replaced, "another worker serves")
    recorder = (await gateway.ask("/healthz"))["pid"]
    os.kill(recorder, signal.SIGKILL)

    async def reborn() -> bool:
        health = await gateway.ask("/healthz")
        return bool(health) and health["pid"] != recorder and len(health["workers"]) == 1 and await hashes(gateway) == {after}

    await eventually(reborn, "the new recorder hears of one worker")
    assert (await gateway.ask("/healthz"))["status"] == "ok"
