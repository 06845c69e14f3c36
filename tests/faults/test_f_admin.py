"""What only an operator may see is not on the port that callers use, and not on any other that strangers could reach unasked."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config import Config

OPERATORS = ("/metrics", "/healthz", "/api/streams", "/api/streams/x", "/api/routes", "/api/live", "/api/traces/x", "/api/reload", "/")


@pytest.mark.parametrize("path", OPERATORS)
async def test_the_callers_port_has_nothing_for_operators(provide: Any, gate: Any, path: str) -> None:
    """Metrics, records and routes are on the admin listener alone; here there is no such path, whatever token comes along (F2)."""
    weir = await gate(await provide())
    for method in (b"GET", b"POST"):
        head = b"%b %b HTTP/1.1\r\nHost: w\r\nAuthorization: Bearer t\r\nContent-Length: 0\r\n\r\n" % (method, path.encode())
        client = await (await weir.client()).ask(head).finish()
        assert client.status == 404
        assert client.headers["server"] == "weir"
    assert weir.book.records == []


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.5", "gateway.internal"])
def test_an_admin_listener_for_others_needs_a_token(host: str) -> None:
    """An address that other machines can reach is refused without one, and taken with one (F2)."""
    with pytest.raises(ValidationError, match=r"set admin\.token"):
        Config.model_validate({"admin": {"host": host}})
    assert Config.model_validate({"admin": {"host": host, "token": "t"}}).admin.host == host
    with pytest.raises(ValidationError, match=r"server\.open"):
        Config.model_validate({"server": {"host": host}})
