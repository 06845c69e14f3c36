"""What leads to other machines: base URLs, listening hosts, headers and the secrets in them. No message here repeats a value."""

import errno
import ipaddress
import os
import re
import ssl
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

SECRET_FILE_LIMIT = 64 * 1024
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")
_HOST = re.compile(r"[A-Za-z0-9.:%_-]{1,253}")
# What frames a message or a connection is not a header to add: a wrong one is request smuggling.
_FRAMING = frozenset({"connection", "content-length", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"})


def _url(value: str) -> str:
    if not value.isascii() or re.search(r"[\x00-\x20\x7f\\]", value):
        raise PydanticCustomError("url", "must be a URL in plain ASCII without spaces")
    try:
        parts = urlsplit(value)
        host, user, _ = parts.hostname, parts.username, parts.port
    except ValueError:
        raise PydanticCustomError("url", "must be a URL with a valid host and port") from None
    if parts.scheme not in ("http", "https") or not host:
        raise PydanticCustomError("url", "must be an http:// or https:// URL with a host")
    if user is not None or "@" in parts.netloc:
        raise PydanticCustomError("url", "must not hold a user name or password")
    if "?" in value or "#" in value:
        raise PydanticCustomError("url", "must not hold a query or a fragment")
    return value.rstrip("/")


def _base_url(value: str) -> str:
    value = _url(value)
    if value.endswith(("/chat/completions", "/completions", "/embeddings")):
        raise PydanticCustomError("url", "must end before the endpoint (as in https://api.openai.com/v1), which Weir adds itself")
    return value


def _host(value: str) -> str:
    if not _HOST.fullmatch(value):
        raise PydanticCustomError("host", "must be a host name or an IP address")
    return value


def is_loopback(host: str) -> bool:
    """Say whether only this machine can reach a listener bound to `host`; anything doubtful is not."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _header_name(value: str) -> str:
    if not _HEADER_NAME.fullmatch(value):
        raise PydanticCustomError("header", "is not a valid header name")
    return value


def _added_header_name(value: str) -> str:
    if _header_name(value).lower() in _FRAMING:
        raise PydanticCustomError("header", f"the header {value.lower()} is Weir's to set")
    return value


def _header_value(value: str) -> str:
    if not _HEADER_VALUE.fullmatch(value) or value != value.strip():
        raise PydanticCustomError("header", "must be printable ASCII on one line, without spaces around it")
    return value


def _folder(info: ValidationInfo) -> Path:
    return info.context.folder if info.context is not None else Path()


def _read_secret_file(path: Path) -> str:
    try:
        if not path.is_file():
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        with path.open("rb") as opened:
            content = opened.read(SECRET_FILE_LIMIT + 1)
    except OSError as error:
        raise PydanticCustomError("secret", "the file it names cannot be read: {why}", {"why": error.strerror or "error"}) from None
    except ValueError:
        raise PydanticCustomError("secret", "the file it names cannot be read") from None
    if len(content) > SECRET_FILE_LIMIT:
        raise PydanticCustomError("secret", "the file it names is larger than 64 KiB")
    text = content.decode("utf-8", "replace").strip()
    if not text:
        raise PydanticCustomError("secret", "the file it names is empty")
    return text


def _read_secret(value: object, info: ValidationInfo) -> object:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise PydanticCustomError("secret", "must be text")
    if value.startswith("file:"):
        value = _read_secret_file(_folder(info) / value.removeprefix("file:"))
    if not re.fullmatch(r"[\x21-\x7e]+", value):
        raise PydanticCustomError("secret", "must be printable ASCII without spaces, since it is sent in a header")
    return value


def _secret_header_value(value: object) -> object:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(text, str):
        raise PydanticCustomError("secret", "must be text")
    return _header_value(text)


def _ca_file(value: str, info: ValidationInfo) -> str:
    path = _folder(info) / value
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        raise PydanticCustomError("ca", "the file holds no PEM certificate") from None
    except OSError as error:
        raise PydanticCustomError("ca", "the file cannot be read: {why}", {"why": error.strerror or "error"}) from None
    except ValueError:
        raise PydanticCustomError("ca", "the file cannot be read") from None
    return str(path)


Url = Annotated[str, AfterValidator(_url)]
BaseUrl = Annotated[str, AfterValidator(_base_url)]
Host = Annotated[str, AfterValidator(_host)]
HeaderName = Annotated[str, AfterValidator(_header_name)]
AddedHeaderName = Annotated[str, AfterValidator(_added_header_name)]
HeaderValue = Annotated[str, AfterValidator(_header_value)]
Secret = Annotated[SecretStr | None, BeforeValidator(_read_secret), WithJsonSchema({"type": "string"})]
SecretHeaderValue = Annotated[SecretStr, BeforeValidator(_secret_header_value), WithJsonSchema({"type": "string"})]
CaFile = Annotated[str, AfterValidator(_ca_file)]
