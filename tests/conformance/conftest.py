"""One Weir for all tests of a test process, and what a missing SDK means: a skip on a developer's machine, a failure in CI."""

from collections.abc import Iterator

import pytest

pytest.register_assert_rewrite("tests.conformance.judging")

from tests.conformance.site import Site, running  # noqa: E402  asserts in judging.py are explained only when told before

SILENT = {"LANGSMITH_TRACING": "false", "LANGCHAIN_TRACING_V2": "false", "AWS_EC2_METADATA_DISABLED": "true"}
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _nobody_else_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SDK tells its maker anything, and none goes through a proxy."""
    for name, value in SILENT.items():
        monkeypatch.setenv(name, value)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Weir with every temper and every target dialect behind it."""
    with running(tmp_path_factory.mktemp("conformance")) as one:
        yield one
