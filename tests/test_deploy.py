"""The samples of deploy/: no engine runs them here, so they are held to what can be known: they parse, and agree with the program."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.config import Config, load
from gateway.config.model import Admin, Server

DEPLOY = Path(__file__).parents[1] / "deploy"
SAMPLES = sorted(DEPLOY.rglob("*.yaml"))
PORTS = {Server().port, Admin().port}
ROUTES = [DEPLOY / "compose" / "routes.yaml", DEPLOY / "kubernetes" / "routes.yaml"]


def documents(path: Path) -> list[Any]:
    return list(yaml.safe_load_all(path.read_text()))


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


@pytest.fixture
def compose() -> dict[str, Any]:
    [parsed] = documents(DEPLOY / "compose.yaml")
    return dict(parsed["services"])


@pytest.fixture
def pod() -> dict[str, Any]:
    [deployment] = documents(DEPLOY / "kubernetes" / "deployment.yaml")
    return dict(deployment["spec"]["template"]["spec"])


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_it_is_yaml_and_says_what_it_is(sample: Path) -> None:
    """Each document is a mapping with something in it; what Kubernetes reads has kind and version."""
    assert documents(sample)
    for document in documents(sample):
        assert isinstance(document, dict)
        if sample.parent.name == "kubernetes" and sample.name != "routes.yaml":
            assert {"apiVersion", "kind"} <= set(document)


@pytest.mark.parametrize("routes", ROUTES, ids=lambda path: path.parent.name)
def test_its_routes_are_good_ones(routes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They load with the variables that the sample sets, on the usual ports, and the admin plane asks for a token."""
    monkeypatch.setenv("WEIR_ADMIN_TOKEN", "t")
    config: Config = load(routes)
    assert {config.server.port, config.admin.port} == PORTS
    assert config.admin.token is not None


def test_images_are_pinned(compose: dict[str, Any]) -> None:
    """No image by a tag that moves; ours has the program's version."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    images = [service["image"] for service in compose.values()] + re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+", image)] == []
    [kustomization] = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    assert compose["weir"]["image"] == f"weir:{__version__}"
    assert kustomization["images"] == [{"name": "weir", "newTag": __version__}]


def test_ports_are_the_defaults(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    """Whatever names a port of ours names the default one; compose publishes to this machine only."""
    [container] = pod["containers"]
    assert {port["containerPort"] for port in container["ports"]} == PORTS
    assert compose["weir"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in sorted(PORTS)]
    assert all(port.startswith("127.0.0.1:") for service in compose.values() for port in service.get("ports", []))
    exposed = re.search(r"^EXPOSE (.*)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    assert exposed is not None
    assert {int(port) for port in exposed[1].split()} == PORTS
    assert f"server 127.0.0.1:{Server().port};" in (DEPLOY / "proxies" / "nginx.conf").read_text()
    assert f"port_value: {Server().port}" in (DEPLOY / "proxies" / "envoy.yaml").read_text()


def test_nobody_kills_it_while_it_drains(compose: dict[str, Any], pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits before it kills waits longer than running streams may take."""
    monkeypatch.setenv("WEIR_ADMIN_TOKEN", "t")
    in_compose, in_kubernetes = (load(routes).server.drain for routes in ROUTES)
    assert seconds(compose["weir"]["stop_grace_period"]) > in_compose + 5
    [container] = pod["containers"]
    before = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] > before + in_kubernetes + 5
    stop = re.search(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "systemd" / "weir.service").read_text(), re.MULTILINE)
    assert stop is not None
    assert int(stop[1]) > Server().drain + 5


def test_it_does_not_run_as_root(compose: dict[str, Any], pod: dict[str, Any]) -> None:
    """One user of its own everywhere, no privileges, a root file system that cannot be written."""
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    user = re.search(r"^USER (\d+)$", dockerfile, re.MULTILINE)
    assert user is not None
    assert "HEALTHCHECK" in dockerfile
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == int(user[1]) > 0
    assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is compose["weir"]["read_only"] is True
    assert "DynamicUser=yes" in (DEPLOY / "systemd" / "weir.service").read_text()


def test_what_is_named_is_there(compose: dict[str, Any]) -> None:
    """Every file that compose mounts and every resource of the kustomization exists, and every dashboard is mounted."""
    mounted = [volume.split(":") for service in compose.values() for volume in service.get("volumes", []) if volume.startswith(".")]
    assert [source for source, *_ in mounted if not (DEPLOY / source).exists()] == []
    boards = {path.name for path in (DEPLOY.parent / "dashboards").glob("*.json")}
    [provider] = documents(DEPLOY / "grafana" / "provisioning" / "dashboards" / "weir.yaml")[0]["providers"]
    assert {target for _, target, *_ in mounted if target.endswith(".json")} == {f"{provider['options']['path']}/{name}" for name in boards}
    folder = DEPLOY / "kubernetes"
    [kustomization] = documents(folder / "kustomization.yaml")
    [routes] = kustomization["configMapGenerator"]
    assert {*kustomization["resources"], *routes["files"], "kustomization.yaml"} == {path.name for path in folder.iterdir()}


def test_the_datasources_have_fixed_names() -> None:
    """Dashboards, links and exemplars find them by uid (G2)."""
    [provisioned] = documents(DEPLOY / "grafana" / "provisioning" / "datasources" / "weir.yaml")
    uids = {source["type"]: source["uid"] for source in provisioned["datasources"]}
    assert uids == {"prometheus": "weir-prometheus", "tempo": "weir-tempo", "jaeger": "weir-jaeger"}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not on PATH")
def test_prometheus_accepts_its_configuration() -> None:
    """promtool reads it; the files it names are in the container only."""
    command = ["promtool", "check", "config", "--syntax-only", str(DEPLOY / "compose" / "prometheus.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stdout + done.stderr
