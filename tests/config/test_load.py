"""From a file to a Config."""

from pathlib import Path

import pytest

from gateway.config import ConfigErrors, load, load_admin, override, parse

GOOD = "upstreams: {a: {base_url: http://h}}\nroutes: [{name: r, targets: [{upstream: a}]}]\n"


def told(path: Path) -> str:
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    return str(caught.value).replace(str(path), "FILE")


def test_a_file_is_read(tmp_path: Path) -> None:
    """UTF-8, with or without a mark at the start."""
    path = tmp_path / "routes.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(path, {}) == load(str(path), {}) == parse(GOOD, environ={})


def test_a_file_that_cannot_be_read_is_a_problem_like_any_other(tmp_path: Path) -> None:
    """Missing, a folder, or not text: said in one line."""
    assert told(tmp_path / "gone.yaml") == "FILE:1:1: cannot be read: No such file or directory"
    assert told(tmp_path) == "FILE:1:1: cannot be read: Is a directory"
    path = tmp_path / "latin1.yaml"
    path.write_bytes("a: é\nb: ".encode() + "é".encode("latin-1"))
    assert told(path) == "FILE:2:4: is not UTF-8 text"
    path.write_bytes(b"\xef\xbb\xbfa: \xff")
    assert told(path) == "FILE:1:4: is not UTF-8 text"


def test_problems_are_called_by_the_files_name(tmp_path: Path) -> None:
    """As it was given, so that an editor can jump there."""
    path = tmp_path / "r.yaml"
    path.write_text(GOOD + "zzz: ${NO}\n")
    assert told(path).splitlines()[0].startswith("FILE:3:1: zzz: unknown key 'zzz'")
    assert told(path).splitlines()[1] == "FILE:3:6: zzz: environment variable NO is not set; set it, or give a default: ${NO:-...}"


def test_files_it_names_are_beside_it(tmp_path: Path) -> None:
    """A relative `file:` is found from the file that names it, wherever the command was started."""
    (tmp_path / "key").write_text("sk-beside\n")
    path = tmp_path / "r.yaml"
    path.write_text(GOOD.replace("http://h", "http://h, api_key: 'file:key'"))
    key = load(path, {}).upstreams["a"].api_key
    assert key is not None
    assert key.get_secret_value() == "sk-beside"


def test_the_environment_is_the_processs_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read when parsing, not when imported."""
    monkeypatch.setenv("WEIR_TEST_PORT", "1234")
    assert parse(GOOD + "server: {port: '${WEIR_TEST_PORT}'}").server.port == 1234


def test_the_command_line_comes_last() -> None:
    """Its values replace the file's, and nothing else changes."""
    config = parse(GOOD, environ={})
    changed = override(config, host="127.0.0.3", port=0, admin_port=9999, workers=2)
    assert (changed.server.host, changed.server.port, changed.server.workers, changed.admin.port) == ("127.0.0.3", 0, 2, 9999)
    assert changed.routes == config.routes
    assert changed.hash != config.hash
    assert override(config) == config
    assert override(config, workers="auto").server.workers >= 1


def test_the_command_line_is_checked_as_the_file_is() -> None:
    """`--host 0.0.0.0` opens no door that the file keeps shut."""
    config = parse(GOOD, environ={})
    with pytest.raises(ConfigErrors) as caught:
        override(config, host="0.0.0.0", port=99999, admin_port=-1)
    assert [str(problem) for problem in caught.value.problems] == [
        "command line: admin.port: must be at least 0, not '-1'",
        "command line: server.host: other machines can reach this address and no tenants are configured; "
        "use 127.0.0.1, or set server.open: true",
        "command line: server.port: must be at most 65535, not '99999'",
    ]
    with pytest.raises(ConfigErrors, match=r"command line: admin\.port: is the server's port already"):
        override(config, port=8081)
    opened = parse(GOOD + "server: {open: true}", environ={})
    assert override(opened, host="0.0.0.0").server.host == "0.0.0.0"


def test_the_admin_part_can_be_read_alone(tmp_path: Path) -> None:
    """Who only looks needs no upstream's key; what is wrong with the admin part is told with its place, what is wrong elsewhere is not."""
    path = tmp_path / "routes.yaml"
    path.write_text("admin: {port: 8123, token: '${TOKEN}'}\nupstreams: {a: {base_url: nowhere, api_key: '${NO_SUCH_KEY}'}}\nwat: 1\n")
    admin = load_admin(path, {"TOKEN": "secret"})
    assert admin.port == 8123
    assert admin.token is not None
    assert admin.token.get_secret_value() == "secret"
    for text, words in (
        ("admin: {port: many}\n", r"routes\.yaml:1:15: admin\.port: "),
        ("admin: {prot: 1}\n", r"routes\.yaml:1:9: admin\.prot: .*did you mean 'port'"),
        ("admin: {token: '${TOKEN}'}\n", r"routes\.yaml:1:16: admin\.token: .*TOKEN"),
        ("admin: [\n", r"routes\.yaml:\d+:\d+: "),
    ):
        path.write_text(text)
        with pytest.raises(ConfigErrors, match=words):
            load_admin(path, {})
    path.write_text("version: 1\n")
    assert load_admin(path, {}).port == 8081
