"""Exporters as configured: the right URL, and gRPC over a real socket."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceServicer, add_TraceServiceServicer_to_server

from gateway.config import Config
from gateway.core.messages import Ended
from gateway.core.record import StreamRecord
from gateway.telemetry.export import signal_url
from gateway.telemetry.recorder import Recorder


class Service(TraceServiceServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.metadata: list[Any] = []

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802
        self.requests.append(request)
        self.metadata += context.invocation_metadata()
        return ExportTraceServiceResponse()


@pytest.fixture
def grpc_collector() -> Iterator[tuple[Service, int]]:
    service = Service()
    server = grpc.server(ThreadPoolExecutor(1))
    add_TraceServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield service, port
    server.stop(0).wait(5)


async def test_grpc(
    make_config: Callable[..., Config], make_record: Callable[..., StreamRecord], grpc_collector: tuple[Service, int]
) -> None:
    """protocol: grpc reaches a gRPC collector, headers included."""
    service, port = grpc_collector
    recorder = Recorder(make_config(otlp=f'{{endpoint: "http://127.0.0.1:{port}", protocol: grpc, headers: {{X-Key: k}}}}'))
    await recorder.start()
    recorder.receive(Ended(1, make_record(1)))
    await recorder.close()
    assert recorder.dropped()["span"] == 0
    assert service.requests[0].resource_spans[0].scope_spans[0].spans[0].name == "chat gpt-4o-mini"
    assert ("x-key", "k") in [(item.key, item.value) for item in service.metadata]


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://h:4318", "http://h:4318/v1/traces"),
        ("http://h:4318/", "http://h:4318/v1/traces"),
        ("https://h/otlp", "https://h/otlp/v1/traces"),
        ("https://h/otlp/v1/traces", "https://h/otlp/v1/traces"),
    ],
)
def test_the_signals_path_is_added_once(endpoint: str, url: str) -> None:
    """A base URL gets the signal's path, a full one stays."""
    assert signal_url(endpoint, "v1/traces") == url
