"""The official Python SDKs through Weir: every client dialect against every target dialect, streamed and whole."""

import importlib
import time
from types import ModuleType

import pytest

from tests.conformance import judging
from tests.conformance.judging import question
from tests.conformance.missing import missing
from tests.conformance.site import TARGETS, Site

pytestmark = [pytest.mark.conformance, pytest.mark.filterwarnings("ignore")]  # warnings of other people's SDKs are not ours to fix
CLIENTS = {
    "openai": ("openai", "openai_chat"),
    "responses": ("openai", "openai_responses"),
    "anthropic": ("anthropic", "anthropic_messages"),
    "gemini": ("google.genai", "gemini"),
    "bedrock": ("boto3", "bedrock"),
    "ollama": ("ollama", "ollama_chat"),
    "langchain": ("langchain_openai", "langchain"),
}
"""Name: the package it needs, and the module here that drives it."""

every_pair = pytest.mark.parametrize(("name", "target"), [(name, target) for name in CLIENTS for target in TARGETS])
both_ways = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture
def client(name: str) -> ModuleType:
    """The module that drives one SDK."""
    package, module = CLIENTS[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        missing(f"{package} is not installed: {error}")
    return importlib.import_module(f"tests.conformance.clients.{module}")


@both_ways
@every_pair
def test_text(site: Site, client: ModuleType, target: str, stream: bool) -> None:
    """A text arrives word for word, each piece as it was sent."""
    asked = question(site, "words", target, stream)
    outcome = client.ask(asked)
    judging.is_text(site, asked, outcome)
    judging.asked_properly(site, asked)


@both_ways
@every_pair
def test_reasoning(site: Site, client: ModuleType, name: str, target: str, stream: bool) -> None:
    """Reasoning stays apart from the answer."""
    asked = question(site, "thoughts", target, stream)
    judging.is_thought(name, site, asked, client.ask(asked))


@both_ways
@every_pair
def test_tools(site: Site, client: ModuleType, name: str, target: str, stream: bool) -> None:
    """Tool calls arrive whole, and their results go back in a second turn that is understood."""
    asked = question(site, "tools", target, stream)
    outcome = client.ask(asked)
    judging.is_tools(name, site, asked, outcome)
    judging.asked_properly(site, asked)
    again = question(site, "words", target, stream, tools=True, calls=tuple(outcome.calls), result="seven metres and rising")
    judging.is_text(site, again, client.ask(again))
    judging.asked_properly(site, again)


@both_ways
@every_pair
def test_usage(site: Site, client: ModuleType, target: str, stream: bool) -> None:
    """The client is told the provider's own token counts."""
    asked = question(site, "words", target, stream)
    judging.is_counted(site, asked, client.ask(asked))


@every_pair
def test_a_limit(site: Site, client: ModuleType, target: str) -> None:
    """An answer cut at max_tokens says so."""
    asked = question(site, "words", target, True, max_tokens=5)
    outcome = client.ask(asked)
    assert (outcome.raised, outcome.finish, outcome.output) == ("", "length", 5)


@both_ways
@every_pair
def test_error(site: Site, client: ModuleType, target: str, stream: bool) -> None:
    """An error, in the middle of a stream too, is raised by the SDK."""
    asked = question(site, "broken", target, stream)
    judging.is_error(site, asked, client.ask(asked))


@both_ways
@every_pair
def test_refusal(site: Site, client: ModuleType, target: str, stream: bool) -> None:
    """A provider that has no time for the call is told as what it is."""
    judging.is_refusal(client.ask(question(site, "busy", target, stream)))


@every_pair
def test_a_picture(site: Site, client: ModuleType, target: str) -> None:
    """A picture, and the schema that the answer must have, reach the upstream."""
    asked = question(site, "words", target, True, picture=True)
    judging.is_text(site, asked, client.ask(asked))
    judging.asked_properly(site, asked)


@every_pair
def test_leaving(site: Site, client: ModuleType, target: str) -> None:
    """A stream closed by its SDK is cancelled upstream soon, and the record says that the client left."""
    asked = question(site, "slow", target, True)
    client.leave(asked)
    judging.is_left(site, asked, time.monotonic())


@pytest.mark.parametrize("target", ["openai", "anthropic", "gemini"])
@pytest.mark.parametrize("name", CLIENTS)
def test_waiting(site: Site, client: ModuleType, target: str) -> None:
    """What keeps a waiting connection alive is invisible to the SDK."""
    asked = question(site, "late", target, True)
    judging.is_text(site, asked, client.ask(asked))
