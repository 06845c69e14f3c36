"""Templates of links: what a page fills in, and what may not be one."""

import pytest
from pydantic import ValidationError

from gateway.config import Config
from gateway.config.links import LINKED


def links(template: str) -> dict[str, str]:
    return dict(Config.model_validate({"admin": {"links": {"Tool": template}}}).admin.links)


@pytest.mark.parametrize(
    "template",
    [
        "http://127.0.0.1:16686/trace/{trace_id}?uiFind={span_id}",
        "https://grafana.example/d/weir-route?var-route={route}&var-upstream={upstream}&from={from_ms}&to={to_ms}",
        'https://grafana.example/explore?left={"queries":[{"query":"{trace_id}"}]}',
        "https://tool.example/#/streams/{stream_id}",
        "http://127.0.0.1:3000",
    ],
)
def test_a_template_is_kept_as_it_is_written(template: str) -> None:
    """Braces that name no place, as those of JSON, are the tool's own."""
    assert links(template) == {"Tool": template}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("javascript:alert(1)", "http:// or https://"),
        ("data:text/html,{trace_id}", "http:// or https://"),
        ("//tool.example/{trace_id}", "http:// or https://"),
        ("{route}://tool.example/", "http:// or https://"),
        ("https://{route}.example/", "before its path"),
        ("https://tool.example:{route}/", "valid host and port"),
        ("https://me:secret@tool.example/", "before its path"),
        ("https://tool.example/{traceid}", "'traceid' is no place"),
        ("https://tool.example/a b", "without spaces"),
        ("https://tool.example\\@evil.example/", "without spaces"),
        ("", "http:// or https://"),
    ],
)
def test_what_is_no_link_is_refused(template: str, why: str) -> None:
    """Only web pages, on a machine that the configuration alone chooses; a place nobody fills in is a slip of the pen."""
    with pytest.raises(ValidationError, match=why):
        links(template)


def test_every_place_can_be_used() -> None:
    """All that a template may name is accepted together."""
    template = "https://tool.example/?" + "&".join(f"{name}={{{name}}}" for name in LINKED)
    assert links(template) == {"Tool": template}
