"""A real llama.cpp server, the real `weir serve`, the official SDK: what Weir says it saw against what the client saw."""

import contextlib
import gzip
import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from msgspec import Struct
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from prometheus_client.parser import text_string_to_metric_families

from gateway.sim import children

pytestmark = [pytest.mark.model, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
MODEL = "smollm2-135m"
ROUTES = """\
version: 1
server: {{host: 127.0.0.1, port: {port}}}
admin: {{host: 127.0.0.1, port: {admin}}}
upstreams:
  llama: {{dialect: openai, base_url: "http://127.0.0.1:{llama}/v1", provider: llama.cpp}}
  llama-messages: {{dialect: anthropic, base_url: "http://127.0.0.1:{llama}", provider: llama.cpp}}
  llama-responses: {{dialect: openai-responses, base_url: "http://127.0.0.1:{llama}/v1", provider: llama.cpp}}
routes:
  - name: local
    match: {{models: [smollm2-135m], dialects: [openai]}}
    targets: [{{upstream: llama}}]
    first_token: {{timeout: 30s, on_slow: wait}}
  - name: messages
    match: {{models: [smollm2-135m], dialects: [anthropic]}}
    targets: [{{upstream: llama-messages}}]
    first_token: {{timeout: 30s, on_slow: wait}}
  - name: responses
    match: {{models: [smollm2-135m], dialects: [openai-responses]}}
    targets: [{{upstream: llama-responses}}]
    first_token: {{timeout: 30s, on_slow: wait}}
  - name: translated
    match: {{models: [as-messages]}}
    targets: [{{upstream: llama-messages, model: smollm2-135m}}]
    first_token: {{timeout: 30s, on_slow: wait}}
telemetry:
  otlp: {{endpoint: "http://127.0.0.1:{otlp}"}}
  store: {{path: "{folder}/weir.db"}}
  access_log: "{folder}/access.log"
"""
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def eventually(ask: Callable[[], Any], what: str, patience: float = 20.0) -> Any:
    """Return the first answer that says something; fail when none came in time."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        if answer := ask():
            return answer
        time.sleep(0.05)
    pytest.fail(f"not within {patience:.0f} s: {what}")


def get(url: str) -> httpx.Response | None:
    with contextlib.suppress(httpx.HTTPError):
        answer = httpx.get(url, timeout=5)
        return answer if answer.status_code == 200 else None
    return None


@contextlib.contextmanager
def running(command: list[str], log: Path, ready: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the block is left; the block begins when `ready` answers 200."""
    with log.open("wb") as file:
        child = children.start(command, file)
    try:
        eventually(lambda: child.poll() is not None or get(ready), f"{ready}; {log}")
        assert child.poll() is None, f"{command[0]} ended with {child.returncode}: {children.last_words(log)}"
        yield child
    finally:
        children.stop(child, 10)


class Collector:
    """An OTLP/HTTP receiver that keeps the spans it is sent, attributes and resource as plain values."""

    def __init__(self) -> None:
        spans: list[dict[str, Any]] = []

        class Receive(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
                if self.path == "/v1/traces":
                    spans.extend(plain(ExportTraceServiceRequest.FromString(body)))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.spans = spans
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receive)
        self.port: int = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)

    def of(self, stream_id: str) -> dict[str, Any] | None:
        return next((span for span in self.spans if span["attributes"].get("weir.stream.id") == stream_id), None)


def plain(request: ExportTraceServiceRequest) -> Iterator[dict[str, Any]]:
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "name": span.name,
                    "trace_id": span.trace_id.hex(),
                    "parent_id": span.parent_span_id.hex(),
                    "seconds": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                    "status": span.status.code,
                    "service": {a.key: value(a.value) for a in resource.resource.attributes}.get("service.name"),
                    "attributes": {a.key: value(a.value) for a in span.attributes},
                }


def value(any_value: Any) -> Any:
    kind = any_value.WhichOneof("value")
    held = getattr(any_value, kind)
    return [value(item) for item in held.values] if kind == "array_value" else held


class Site(Struct):
    """Everything that runs: the gateway's two addresses, the model server's port, the collector."""

    base: str
    admin: str
    llama: int
    collector: Collector

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.base}/v1", api_key="any", max_retries=0, timeout=120)

    def row(self, stream_id: str) -> dict[str, Any]:
        """Return the admin API's account of a stream once it has ended."""

        def ended() -> dict[str, Any] | None:
            answer = get(f"{self.admin}/api/streams/{stream_id}")
            row: dict[str, Any] | None = answer.json() if answer else None
            return row if row and row["state"] == "ended" else None

        found: dict[str, Any] = eventually(ended, f"stream {stream_id} ended in the admin API")
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of /metrics, summed over every label that is not given."""
        families = text_string_to_metric_families(httpx.get(f"{self.admin}/metrics").text)
        samples = (sample for family in families for sample in family.samples)
        return sum(s.value for s in samples if s.name == name and labels.items() <= s.labels.items())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if not (ROOT / ".model/built").exists():
        if os.environ.get("CI"):
            pytest.fail("no model in .model: `make model` builds it")
        pytest.skip("no model in .model: `make model` builds it")
    folder = tmp_path_factory.mktemp("site")
    llama, port, admin = children.free_ports(3)
    collector = Collector()
    routes = folder / "routes.yaml"
    routes.write_text(ROUTES.format(port=port, admin=admin, llama=llama, otlp=collector.port, folder=folder))
    serve = [str(ROOT / "deploy/model/serve.sh"), str(llama), str(ROOT / ".model")]
    weir = [sys.executable, "-m", "gateway", "serve", "-c", str(routes)]
    collector.thread.start()
    try:
        with (
            running(serve, folder / "llama.log", f"http://127.0.0.1:{llama}/health"),
            running(weir, folder / "weir.log", f"http://127.0.0.1:{port}/readyz"),
        ):
            eventually(lambda: get(f"http://127.0.0.1:{admin}/healthz"), "the admin listener")
            yield Site(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}", llama, collector)
    finally:
        collector.server.shutdown()
        collector.thread.join()
        collector.server.server_close()


class Heard(Struct, kw_only=True):
    """What the client saw of one stream; seconds since it asked."""

    stream_id: str
    headers: dict[str, str]
    ids: set[str]
    models: set[str]
    finish: list[str]
    usage: Any
    tokens: int
    text: str
    empty: int
    ttft: float
    whole: float


def listen(client: openai.OpenAI, **asked: Any) -> Heard:
    """Stream one answer to its end with the official SDK."""
    began = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": "Tell me about rivers."}], stream=True, max_tokens=40, **asked
    )
    chunks: list[tuple[float, Any]] = [(time.monotonic() - began, chunk) for chunk in raw.parse()]
    spoken = [(at, chunk) for at, chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    return Heard(
        stream_id=raw.headers["x-weir-stream-id"],
        headers=dict(raw.headers),
        ids={chunk.id for _, chunk in chunks},
        models={chunk.model for _, chunk in chunks},
        finish=[chunk.choices[0].finish_reason for _, chunk in chunks if chunk.choices and chunk.choices[0].finish_reason],
        usage=next((chunk.usage for _, chunk in chunks if chunk.usage), None),
        tokens=len(spoken),
        text="".join(chunk.choices[0].delta.content for _, chunk in spoken),
        empty=sum(not chunk.choices for _, chunk in chunks),
        ttft=spoken[0][0],
        whole=time.monotonic() - began,
    )


def test_the_row_is_what_the_client_saw(site: Site) -> None:
    """The admin API tells of a stream the ids, the usage, the finish and the first token that its client saw."""
    heard = listen(site.client(), stream_options={"include_usage": True}, seed=7)
    row = site.row(heard.stream_id)

    assert row["outcome"] == "completed"
    assert row["error"] is None
    assert {row["response_id"]} == heard.ids
    assert {row["served_model"]} == heard.models
    assert row["finish"] == heard.finish
    assert row["usage"]["input"] == heard.usage.prompt_tokens
    assert row["usage"]["output"] == heard.usage.completion_tokens
    assert row["cadence"]["chunks"] == heard.tokens
    assert (row["route"], row["upstream"] if "upstream" in row else row["attempts"][0]["upstream"]) == ("local", "llama")
    assert heard.headers["x-weir-upstream"] == "llama"
    assert heard.headers["x-weir-route"] == "local"

    # Weir hears the request after the client began to ask, and the token before the client does; the model owns nearly all of the wait.
    ttft, duration = row["derived"]["ttft"], row["ended_at"] - row["received_at"]
    assert 0 < ttft <= heard.ttft
    assert ttft <= duration
    assert row["offsets"]["last_token"] <= heard.whole
    assert sum(row["seconds"].values()) == pytest.approx(duration, abs=0.001)
    assert row["seconds"]["upstream_wait"] > duration / 2


def test_the_span_is_what_the_client_saw(site: Site) -> None:
    """The exported span hangs under the client's own and says the same as the row and the client."""
    heard = listen(
        site.client(), stream_options={"include_usage": True}, temperature=0.5, extra_headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}
    )
    row = site.row(heard.stream_id)
    span = eventually(lambda: site.collector.of(heard.stream_id), "the span at the collector")
    said = span["attributes"]

    assert (span["trace_id"], span["parent_id"]) == (TRACE, PARENT)
    assert (row["trace_id"], row["parent_id"]) == (TRACE, PARENT)
    assert span["name"] == f"chat {MODEL}"
    assert span["service"] == "weir"
    assert span["status"] == 0
    assert {said["gen_ai.response.id"]} == heard.ids
    assert {said["gen_ai.response.model"]} == heard.models
    assert said["gen_ai.response.finish_reasons"] == heard.finish
    assert said["gen_ai.usage.input_tokens"] == heard.usage.prompt_tokens
    assert said["gen_ai.usage.output_tokens"] == heard.usage.completion_tokens
    assert said["gen_ai.request.temperature"] == 0.5
    assert said["gen_ai.request.max_tokens"] == 40
    assert said["gen_ai.provider.name"] == "llama.cpp"
    assert (said["server.address"], said["server.port"]) == ("127.0.0.1", site.llama)
    assert said["weir.outcome"] == "completed"
    assert said["weir.ttft"] == pytest.approx(row["derived"]["ttft"], abs=1e-6)
    assert 0 < said["weir.ttft"] <= heard.ttft
    assert 0 < said["gen_ai.server.time_to_first_token"] <= said["weir.ttft"]
    owned = sum(seconds for name, seconds in said.items() if name.startswith("weir.duration."))
    assert owned == pytest.approx(span["seconds"], abs=0.001)


def test_the_metrics_count_what_the_client_saw(site: Site) -> None:
    """One stream more is one stream, one first token and its tokens more on /metrics."""
    streams = {"name": "weir_streams_total", "route": "local", "outcome": "completed"}
    output = {"name": "gen_ai_client_token_usage_sum", "gen_ai_token_type": "output"}

    def seen() -> tuple[float, float, float, float]:
        tokens = site.metric(**output)
        return site.metric(**streams), tokens, site.metric("weir_ttft_seconds_count"), site.metric("weir_ttft_seconds_sum")

    before = seen()
    heard = listen(site.client(), stream_options={"include_usage": True})
    site.row(heard.stream_id)
    after = eventually(lambda: (now := seen()) != before and now, "the stream on /metrics")
    more = [now - then for now, then in zip(after, before, strict=True)]
    assert more[:3] == [1, heard.usage.completion_tokens, 1]
    assert 0 < more[3] <= heard.ttft


def test_usage_is_known_though_the_client_did_not_ask(site: Site) -> None:
    """A client that says nothing about usage is shown none, and the row has it all the same."""
    heard = listen(site.client())
    row = site.row(heard.stream_id)
    assert heard.usage is None
    assert heard.empty == 0, "a chunk without choices reached a client that did not ask for it"
    assert row["usage"]["output"] >= heard.tokens
    assert row["usage"]["input"] > 0


def stream(url: str, body: dict[str, Any]) -> tuple[str, list[dict[str, Any]]]:
    """Ask for a stream without any SDK; return its id in Weir and the documents of its events."""
    with httpx.stream("POST", url, json=body, headers={"anthropic-version": "2023-06-01"}, timeout=120) as answer:
        assert answer.status_code == 200, answer.read()
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.startswith("data: ")]
        return answer.headers["x-weir-stream-id"], [json.loads(line) for line in lines if line != "[DONE]"]


def test_the_models_anthropic_surface_is_read_as_such(site: Site) -> None:
    """Tokens, usage and reason of a Messages stream, as an independent reading of its events has them."""
    body = {"model": MODEL, "max_tokens": 30, "stream": True, "seed": 4, "messages": [{"role": "user", "content": "Tell me about rivers."}]}
    stream_id, events = stream(f"{site.base}/v1/messages", body)
    row = site.row(stream_id)
    begun = next(event["message"] for event in events if event["type"] == "message_start")
    texts = [event["delta"]["text"] for event in events if event["type"] == "content_block_delta" and event["delta"].get("text")]
    last = next(event for event in events if event["type"] == "message_delta")
    read = begun["usage"]["input_tokens"] + begun["usage"].get("cache_read_input_tokens", 0)
    assert (row["outcome"], row["dialect"], row["route"], row["response_id"]) == ("completed", "anthropic", "messages", begun["id"])
    assert row["cadence"]["chunks"] == len(texts) > 0
    assert (row["usage"]["input"], row["usage"]["output"]) == (read, last["usage"]["output_tokens"])
    assert row["finish"] == [last["delta"]["stop_reason"]]
    assert row["first_token_at"] is not None


def test_the_models_responses_surface_is_read_as_such(site: Site) -> None:
    """The same of a stream of the Responses API."""
    body = {"model": MODEL, "max_output_tokens": 30, "stream": True, "input": "Tell me about rivers."}
    stream_id, events = stream(f"{site.base}/v1/responses", body)
    row = site.row(stream_id)
    texts = [event["delta"] for event in events if event["type"] == "response.output_text.delta" and event["delta"]]
    ended = next(event["response"] for event in events if event["type"] in {"response.completed", "response.incomplete"})
    assert (row["outcome"], row["dialect"], row["route"]) == ("completed", "openai-responses", "responses")
    assert row["cadence"]["chunks"] == len(texts) > 0
    assert (row["usage"]["input"], row["usage"]["output"]) == (ended["usage"]["input_tokens"], ended["usage"]["output_tokens"])
    assert row["response_id"] == ended["id"]


def test_an_openai_client_hears_the_models_anthropic_surface(site: Site) -> None:
    """The official OpenAI client, the model's Messages API behind it: what it hears is what the row says."""
    raw = site.client().chat.completions.with_raw_response.create(
        model="as-messages",
        messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me about rivers."}],
        stream=True,
        max_tokens=30,
        stream_options={"include_usage": True},
    )
    chunks = list(raw.parse())
    row = site.row(raw.headers["x-weir-stream-id"])
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices and chunk.choices[0].delta.content]
    usage = next(chunk.usage for chunk in chunks if chunk.usage)
    assert (row["outcome"], row["dialect"], row["mutations"]["translated"]) == ("completed", "openai", 1)
    assert row["cadence"]["chunks"] == len(said) > 0
    assert (row["usage"]["input"], row["usage"]["output"]) == (usage.prompt_tokens, usage.completion_tokens)


def test_a_client_that_leaves_frees_the_model(site: Site) -> None:
    """When the client leaves in the middle, the outcome says so and the model server stops generating."""
    raw = site.client().chat.completions.with_raw_response.create(
        model=MODEL,
        messages=[{"role": "user", "content": "Count to a thousand."}],
        stream=True,
        max_tokens=2000,
        extra_body={"ignore_eos": True},
    )
    stream = raw.parse()
    for _, chunk in zip(range(200), stream, strict=False):
        if chunk.choices and chunk.choices[0].delta.content:
            break
    stream.close()

    def idle() -> bool:
        return not any(slot["is_processing"] for slot in httpx.get(f"http://127.0.0.1:{site.llama}/slots").json())

    eventually(idle, "the model server's slots free again")
    row = site.row(raw.headers["x-weir-stream-id"])
    assert row["outcome"] == "client_disconnect"
    assert row["finish"] == []


def test_more_streams_than_slots_all_complete(site: Site) -> None:
    """With two slots a third and fourth stream wait their turn; each is told as it was, none is lost."""
    with ThreadPoolExecutor(4) as crowd:
        heard = list(crowd.map(lambda seed: listen(site.client(), stream_options={"include_usage": True}, seed=seed), range(4)))
    rows = [(site.row(one.stream_id), one) for one in heard]
    assert [row["outcome"] for row, _ in rows] == ["completed"] * 4
    assert all(row["usage"]["output"] == one.usage.completion_tokens for row, one in rows)
    assert all(0 < row["derived"]["ttft"] <= one.ttft for row, one in rows)
