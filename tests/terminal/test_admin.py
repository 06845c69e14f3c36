"""Where the admin API is, with which token, and the one line that every failure to see it is."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.terminal.admin import Place, Unanswered

CONFIG = """
version: 1
admin: {host: 127.0.0.1, port: %s, token: "%s"}
upstreams: {fast: {base_url: "http://127.0.0.1:1/v1", api_key: "${NO_SUCH_KEY_HERE}"}}
routes: [{name: chat, targets: [{upstream: fast}]}]
"""
SECRET = "s3cr3t-of-the-weir"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WEIR_ADMIN_TOKEN", raising=False)
    return tmp_path


def test_the_configuration_says_where(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its admin part is all that is read: whoever looks has no upstream's key. Its token comes first, then the variable's."""
    (here / "routes.yaml").write_text(CONFIG % (8123, SECRET))
    found = Place.of(None, None)
    assert (found.url, found.token) == ("http://127.0.0.1:8123", SECRET)
    monkeypatch.setenv("WEIR_ADMIN_TOKEN", "other")
    (here / "bare.yaml").write_text(CONFIG % (8123, ""))
    assert Place.of("bare.yaml", None).token == "other"


def test_a_url_is_shown_no_token_that_nobody_named_for_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token goes to another address than its configuration's only when that configuration is named with it."""
    (here / "routes.yaml").write_text(CONFIG % (8123, SECRET))
    assert Place.of(None, "http://example.org:1").token is None
    assert Place.of("routes.yaml", "http://example.org:1").token == SECRET
    monkeypatch.setenv("WEIR_ADMIN_TOKEN", "other")
    assert Place.of(None, "example.org:1").token == "other"
    assert Place.of(None, "example.org:1").url == "http://example.org:1"


def test_without_any_configuration_it_is_the_usual_port(here: Path) -> None:
    """Beside `weir demo` there is no routes.yaml, and none is needed."""
    assert Place.of(None, None).url == "http://127.0.0.1:8081"


@pytest.mark.parametrize("url", ["foo://x", "http://", "http://user:pass@host:1", "http://host:99999", ""])
def test_an_address_that_is_none(here: Path, url: str) -> None:
    """What is no URL of a server is refused, and what stands in it is not repeated: it may be a password."""
    with pytest.raises(Unanswered, match="is a URL such as") as refused:
        Place.of(None, url)
    assert "pass" not in str(refused.value)


@pytest.mark.parametrize("command", [("top",), ("top", "--once"), ("tail",), ("replay", "some-stream")], ids=" ".join)
@pytest.mark.parametrize("token", ["", "wrong-tok3n", "bad\ntok3n"], ids=["none", "wrong", "broken"])
async def test_a_token_that_is_not_the_one(serve: Callable[..., Awaitable[Any]], weir: Any, command: tuple[str, ...], token: str) -> None:
    """One line that says what is missing, exit code 1, and no token in it."""
    _, session = await serve(SECRET)
    view = await weir(*command, "--admin", str(session._base_url), WEIR_ADMIN_TOKEN=token)
    code, out, err = await view.over()
    assert (code, out, len(err.splitlines())) == (1, "", 1), err
    assert "tok3n" not in err
    assert SECRET not in err
    assert ("WEIR_ADMIN_TOKEN" in err) is ("\n" not in token)


@pytest.mark.parametrize("command", [("top",), ("tail",), ("replay", "some-stream")], ids=" ".join)
async def test_nobody_is_there(weir: Any, command: tuple[str, ...]) -> None:
    """One line that says where one has looked, exit code 1."""
    code, out, err = await (await weir(*command, "--admin", "127.0.0.1:1")).over()
    assert (code, out) == (1, "")
    assert err == "weir: nothing listens at http://127.0.0.1:1; is `weir serve` running? -c FILE or --admin URL say where\n"


async def test_somebody_else_is_there(weir: Any) -> None:
    """A server that is no admin API is told from one."""

    async def page(_: web.Request) -> web.Response:
        return web.Response(text="<html>hello</html>", content_type="text/html")

    app = web.Application()
    app.router.add_get("/{any:.*}", page)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    code, out, err = await (await weir("top", "--admin", f"127.0.0.1:{runner.addresses[0][1]}")).over()
    await runner.cleanup()
    assert (code, out) == (1, "")
    assert err.endswith("does not speak as Weir's admin API does\n")
