"""The way of a trace through deploy/: what collector, Tempo, Jaeger and Grafana are told agrees with itself and with the program."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.promql import check
from gateway.config.route import Slo
from gateway.telemetry.sampling import ABORT_OUTCOMES, TRUE_OF
from gateway.telemetry.spans import SPAN_ATTRIBUTES
from tests.backends.programs import OTELCOL

TOP = Path(__file__).parents[1]
DEPLOY = TOP / "deploy"
COLLECTORS = ["collector", "collector-tail"]
ATTRIBUTES = {row.name for row in SPAN_ATTRIBUTES}

each_collector = pytest.mark.parametrize("name", COLLECTORS)


def document(*path: str) -> dict[str, Any]:
    return dict(yaml.safe_load(DEPLOY.joinpath(*path).read_text()))


def collector(name: str) -> dict[str, Any]:
    return document("compose", f"{name}.yaml")


def datasources() -> list[dict[str, Any]]:
    return list(document("grafana", "provisioning", "datasources", "weir.yaml")["datasources"])


def members(value: Any, key: str) -> Iterator[Any]:
    """Yield everything called `key`, however deep."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from members(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from members(inner, key)


@each_collector
def test_a_pipeline_is_of_parts_that_are_there(name: str) -> None:
    """Every part of a pipeline is configured, every part configured is in a pipeline, and memory is limited before anything else."""
    config = collector(name)
    for kind in ("receivers", "processors", "exporters"):
        used = [part for pipeline in config["service"]["pipelines"].values() for part in pipeline[kind]]
        assert set(used) == set(config[kind])
    assert all(pipeline["processors"][0] == "memory_limiter" for pipeline in config["service"]["pipelines"].values())


@each_collector
def test_spans_go_from_weir_to_services_that_are_there(name: str) -> None:
    """The endpoint that compose gives Weir is the collector's, and every exporter's is a service of compose on the port for OTLP."""
    services = document("compose.yaml")["services"]
    config = collector(name)
    protocols = config["receivers"]["otlp"]["protocols"]
    assert (
        services["weir"]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"] == f"http://collector:{protocols['http']['endpoint'].split(':')[1]}"
    )
    targets = {exporter["endpoint"].split(":")[0]: exporter["endpoint"].split(":")[1] for exporter in config["exporters"].values()}
    assert set(targets) == {"jaeger", "tempo"} <= set(services)
    assert set(targets.values()) == {"4317"}
    assert document("compose", "tempo.yaml")["distributor"]["receivers"]["otlp"]["protocols"]["grpc"]["endpoint"].endswith(":4317")


def test_both_collectors_can_be_chosen() -> None:
    """Compose mounts both files, and its image is the one that has a tail sampler."""
    service = document("compose.yaml")["services"]["collector"]
    assert service["command"] == ["--config=/etc/otelcol/${WEIR_COLLECTOR:-collector}.yaml"]
    assert {volume.split(":")[1] for volume in service["volumes"]} == {f"/etc/otelcol/{name}.yaml" for name in COLLECTORS}
    assert service["image"].startswith("otel/opentelemetry-collector-contrib:")


def test_the_tail_sampler_has_the_rule_of_the_gateway() -> None:
    """Its policies are the words of `telemetry.sampling.always` and the baseline, asked of attributes that spans have."""
    policies = {policy["name"]: policy for policy in collector("collector-tail")["processors"]["tail_sampling"]["policies"]}
    assert list(policies) == [*TRUE_OF, "baseline"]
    keys = {*members(policies, "key"), *re.findall(r'attributes\["([^"]+)"\]', json.dumps(policies).replace('\\"', '"'))}
    assert keys == {"weir.stalled", "weir.fallback.reason", "weir.ttft", "weir.outcome"} <= ATTRIBUTES
    assert set(policies["abort"]["string_attribute"]["values"]) == ABORT_OUTCOMES
    assert policies["error"]["status_code"] == {"status_codes": ["ERROR"]}
    assert policies["slow"]["ottl_condition"]["span"] == [f'attributes["weir.ttft"] > {Slo().ttft}']


@pytest.mark.skipif(not OTELCOL.exists(), reason="no OpenTelemetry Collector: make collector, where Go is at hand")
@each_collector
def test_a_real_collector_accepts_its_configuration(name: str) -> None:
    """The collector itself says that the file is one of its own."""
    command = [str(OTELCOL), "validate", "--config", str(DEPLOY / "compose" / f"{name}.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_uid_is_one_of_the_datasources() -> None:
    """Links between datasources, and every dashboard, name a datasource that is provisioned, or leave the choice to a variable (G2)."""
    uids = {source["uid"] for source in datasources()}
    assert len(uids) == len(datasources()) == 3
    assert {*members(datasources(), "datasourceUid")} == uids
    boards = sorted((TOP / "dashboards").glob("*.json"))
    assert boards
    for board in boards:
        named = {place["uid"] for place in members(json.loads(board.read_text()), "datasource") if isinstance(place, dict)}
        assert named - uids <= {"${datasource}", "-- Grafana --"}


def test_an_exemplar_leads_to_a_trace() -> None:
    """From Prometheus by the label that exemplars have, into each backend that traces are sent to."""
    [prometheus] = [source for source in datasources() if source["type"] == "prometheus"]
    links = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert {(link["name"], link["datasourceUid"]) for link in links} == {("trace_id", "weir-tempo"), ("trace_id", "weir-jaeger")}
    assert "--enable-feature=exemplar-storage" in document("compose.yaml")["services"]["prometheus"]["command"]


@pytest.mark.parametrize("kind", ["tempo", "jaeger"])
def test_a_span_leads_to_metrics(kind: str) -> None:
    """Its tags are attributes that spans have, turned into labels that the metrics of each query have."""
    [source] = [source for source in datasources() if source["type"] == kind]
    link = source["jsonData"]["tracesToMetrics"]
    assert link["datasourceUid"] == "weir-prometheus"
    assert {tag["key"] for tag in link["tags"]} <= ATTRIBUTES
    matchers = ",".join(f'{tag["value"]}="x"' for tag in link["tags"])
    for query in link["queries"]:
        assert "{$$__tags}" in query["query"]  # two dollars: Grafana puts variables of its environment in place of one
        check(query["query"].replace("$$__tags", matchers), {})


def test_urls_are_those_of_compose() -> None:
    """Each datasource is at a service of compose, on the port that it is told to listen on."""
    services = document("compose.yaml")["services"]
    places = {source["type"]: source["url"].removeprefix("http://").split(":") for source in datasources()}
    assert {host for host, _ in places.values()} <= set(services)
    assert places["tempo"][1] == str(document("compose", "tempo.yaml")["server"]["http_listen_port"])
    for kind in ("prometheus", "jaeger"):
        assert any(port.endswith(f":{places[kind][1]}") for port in services[kind]["ports"])


def test_what_is_tried_is_what_is_shipped() -> None:
    """`make collector` builds the versions of Jaeger and of the collector whose images compose names."""
    images = {name: service["image"].split(":")[1] for name, service in document("compose.yaml")["services"].items()}
    built = (TOP / "tests" / "backends" / "build.sh").read_text()
    jaeger, otelcol = re.search(r"^jaeger=(\S+) collector=(\S+)$", built, re.MULTILINE).groups()  # type: ignore[union-attr]
    assert (images["jaeger"], images["collector"].rpartition(".")[0]) == (jaeger, otelcol.rpartition(".")[0])
