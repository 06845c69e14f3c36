"""URLs, hosts, headers and secrets."""

import ssl
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from gateway.config import Admin, Otlp, Server, Upstream
from gateway.config.addresses import SECRET_FILE_LIMIT, is_loopback


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("http://127.0.0.1:9001/v1/", "http://127.0.0.1:9001/v1"),
        ("http://[::1]:80", "http://[::1]:80"),
        ("http://host/", "http://host"),
    ],
)
def test_a_base_url_ends_without_a_slash(given: str, kept: str) -> None:
    """An endpoint's path can simply be added to it."""
    assert Upstream(base_url=given).base_url == kept


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        *(("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("localhost", True)),
        *(("0.0.0.0", False), ("::", False), ("10.0.0.1", False), ("", False), ("localhost.evil", False), ("127.1", False)),
    ],
)
def test_anything_doubtful_is_not_loopback(host: str, loopback: bool) -> None:
    """Only what surely stays on this machine may be bound without asking."""
    assert is_loopback(host) is loopback


def test_a_reachable_server_must_be_asked_for() -> None:
    """server.open, admin.token: the one who opens a door says so."""
    assert Server(host="0.0.0.0", open=True).host == "0.0.0.0"
    assert Admin(host="::", token=SecretStr("t")).host == "::"
    with pytest.raises(ValidationError):
        Server(host="0.0.0.0")
    with pytest.raises(ValidationError):
        Admin(host="0.0.0.0", token=SecretStr(""))


def test_an_empty_secret_is_no_secret() -> None:
    """`${OPENAI_API_KEY:-}` with nothing set means that there is no key."""
    assert Upstream(base_url="http://h", api_key="").api_key is None
    assert Otlp(endpoint="").endpoint is None


def test_a_secret_can_stand_in_a_file(tmp_path: Path) -> None:
    """`file:` reads it and drops the line break that editors leave."""
    (tmp_path / "key").write_text("sk-from-file\n")
    key = Upstream(base_url="http://h", api_key=f"file:{tmp_path}/key").api_key
    assert key is not None
    assert key.get_secret_value() == "sk-from-file"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"a b", "printable ASCII"),
        (b"\xff\xfe", "printable ASCII"),
        (b"a\nb", "printable ASCII"),
        (b"x" * (SECRET_FILE_LIMIT + 1), "larger than 64 KiB"),
    ],
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    """What could not be sent in a header is no credential, and none of it is shown."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(ValidationError, match=why):
        Upstream(base_url="http://h", api_key=f"file:{tmp_path}/key")


@pytest.mark.parametrize("path", ["", ".", "/dev/zero", "a\0b", "\ud800"])
def test_what_is_not_a_file_is_refused(path: str) -> None:
    """Folders, devices and impossible names end in a problem, not in a traceback or a wait."""
    with pytest.raises(ValidationError, match="the file it names cannot be read"):
        Upstream(base_url="http://h", api_key=f"file:{path}")


def test_a_ca_file_must_hold_certificates(tmp_path: Path) -> None:
    """Found out when the file is checked, not at the first call."""
    path = tmp_path / "ca.pem"
    path.write_text("not a certificate")
    with pytest.raises(ValidationError, match="the file holds no PEM certificate"):
        Upstream(base_url="https://h", tls_ca=str(path))
    bundle = ssl.get_default_verify_paths().cafile
    if bundle is not None:
        assert Upstream(base_url="https://h", tls_ca=bundle).tls_ca == bundle


@pytest.mark.parametrize("name", ["Connection", "transfer-encoding", "CONTENT-LENGTH", "te", "a b", "a:b", "", "é"])
def test_headers_that_frame_or_break_a_message_are_refused(name: str) -> None:
    """An added header may never change where a request ends."""
    with pytest.raises(ValidationError):
        Upstream(base_url="http://h", headers={name: "x"})


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "\0", "é", " a", "a\t"])
def test_header_values_stay_on_their_line(value: str) -> None:
    """No line break, no control character, nothing that encodes in two ways."""
    with pytest.raises(ValidationError):
        Upstream(base_url="http://h", headers={"x": value})
    with pytest.raises(ValidationError):
        Otlp(headers={"x": value})
