"""Signs requests to AWS (Signature Version 4), at the edge, where there is a clock and the body is final.

Needs botocore, the optional extra `bedrock`. It is imported when the first `Signer` is made: that costs 60 ms, which no other start-up
should pay.

Nothing here says a secret: botocore's loggers, which would say signatures, tokens and the answers of credential services at DEBUG, are
cut off from everybody else's; keys do not show themselves; errors name their kind and nothing else.
"""

import logging
import re
from collections.abc import Mapping
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

_REGION = re.compile(r"[a-z]{2,4}(?:-[a-z]+)?-(?:(?:north|south)(?:east|west)?|east|west|central)-\d+")
_TELLTALE = ("auth", "awsrequest", "credentials", "endpoint", "handlers", "hooks", "httpsession", "parsers", "tokens", "utils")
_NEEDED = ("auth", "awsrequest", "exceptions")  # imported with the first signer: an import is not for the event loop
_ADDED = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")


class Keys(Struct, frozen=True):
    """Credentials that were given; `token` belongs to temporary ones."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return "Keys(...)"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return []


class SigningError(Exception):
    """A request cannot be signed: botocore is not installed, or no region or credentials are known. The message names no secret."""


class Signer:
    """Signs for one upstream. Credentials are those given, or the first that botocore's default chain finds, which keeps them fresh.

    Making one reads files and may ask AWS for credentials, and so may signing unless `is_fresh`: then neither is for the event loop.
    """

    __slots__ = ("_credentials", "_region", "_service")

    def __init__(self, keys: Keys | None = None, region: str | None = None, service: str = "bedrock") -> None:
        _silence()
        for module in _NEEDED:
            _botocore(module)
        self._credentials = _found() if keys is None else _given(keys)
        self._region = region
        self._service = service

    @property
    def is_fresh(self) -> bool:
        """Whether signing now needs nothing but memory: the credentials never expire, or not within minutes."""
        refresh_needed = getattr(self._credentials, "refresh_needed", None)
        return refresh_needed is None or not refresh_needed()

    def sign(self, method: str, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """Return the headers to add to a request whose method, URL, content type and body are sent exactly as given.

        Raises `SigningError` when the region is neither configured nor in the host name, or when credentials cannot be refreshed.
        """
        signed = {name: value for name, value in headers.items() if _is_signed(name)}
        request = _botocore("awsrequest").AWSRequest(method=method, url=url, headers=signed, data=body)
        region = self._region or region_of(url)
        try:
            _botocore("auth").SigV4Auth(self._credentials.get_frozen_credentials(), self._service, region).add_auth(request)
        except _failures() as error:
            raise SigningError(f"AWS credentials cannot be used: {type(error).__name__}") from None
        return {name: request.headers[name] for name in _ADDED if name in request.headers}


def region_of(url: str) -> str:
    """Return the region that an AWS host name has in it; raises `SigningError` when it has none."""
    labels = (urlsplit(url).hostname or "").split(".")
    for label in reversed(labels):  # what a VPC endpoint is called stands to the left of its region
        if _REGION.fullmatch(label):
            return label
    raise SigningError("the upstream's host name has no AWS region in it: say which one it is")


def _is_signed(name: str) -> bool:
    """Tell whether a header is part of the signature: what AWS asks for, and no more, so that others may still change on their way."""
    lower = name.lower()
    return lower == "content-type" or lower.startswith("x-amz-")


def _given(keys: Keys) -> Any:
    return _botocore("credentials").Credentials(keys.access_key, keys.secret_key, keys.token)


def _found() -> Any:
    """Return the credentials of the default chain: environment, profile, container, instance."""
    session = _botocore("session")
    try:
        found = session.Session().get_credentials()
    except _failures() as error:
        raise SigningError(f"AWS credentials cannot be found: {type(error).__name__}") from None
    if found is None:
        raise SigningError("no AWS credentials: neither an api_key, nor keys in the environment, a profile or a role")
    return found


def _failures() -> tuple[type[Exception], ...]:
    """Return what finding and refreshing credentials may raise; what they say may hold an answer of a credential service."""
    exceptions = _botocore("exceptions")
    return exceptions.BotoCoreError, exceptions.ClientError, RuntimeError, LookupError, ValueError, OSError


def _silence() -> None:
    """Keep what botocore logs to itself. Levels are no help: anyone may lower them, for the root or for one logger."""
    logging.getLogger("botocore").propagate = False
    for name in _TELLTALE:
        logging.getLogger(f"botocore.{name}").addFilter(_nothing)


def _nothing(record: logging.LogRecord) -> bool:  # noqa: ARG001 - no record may pass
    return False


def _botocore(module: str) -> Any:
    try:
        return import_module(f"botocore.{module}")
    except ImportError as error:
        raise SigningError("to sign for AWS, botocore is needed: install the extra `bedrock`") from error
