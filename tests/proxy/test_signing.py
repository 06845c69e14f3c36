"""Signatures for AWS: those of its published examples, and those of an independent reading of the specification."""

import builtins
import hashlib
import hmac
import io
import logging
import subprocess
import sys
import traceback
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from gateway.proxy.signing import Keys, Signer, SigningError, region_of

KEYS = Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
BEDROCK = "https://bedrock-runtime.eu-central-1.amazonaws.com"
ARN = "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A123456789012%3Ainference-profile%2Fus.anthropic.claude/converse-stream"


@pytest.fixture
def botocore():
    """Botocore, where the extra `bedrock` is installed."""
    return pytest.importorskip("botocore")


@pytest.fixture
def anonymous(monkeypatch, tmp_path):
    """A machine that knows no credentials."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))


def specified(added: dict[str, str], url: str, body: bytes, **signed: str) -> str:
    """The signature as the specification says it, for a POST to Bedrock in eu-central-1 at the moment that was signed."""
    parts, moment = urlsplit(url), added["X-Amz-Date"]
    headers = {"host": parts.netloc, "x-amz-date": moment, **{name.replace("_", "-"): value for name, value in signed.items()}}
    names = ";".join(sorted(headers))
    lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
    path = quote(parts.path, safe="/~-._")  # once more than it is sent
    asked = "\n".join(("POST", path, "", lines, names, hashlib.sha256(body).hexdigest()))
    scope = f"{moment[:8]}/eu-central-1/bedrock/aws4_request"
    told = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(asked.encode()).hexdigest()))
    key = b"AWS4" + KEYS.secret_key.encode()
    for word in scope.split("/"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, told.encode(), "sha256").hex()
    return f"AWS4-HMAC-SHA256 Credential={KEYS.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"


@pytest.mark.parametrize(
    ("method", "url", "form", "signature"),
    [
        ("GET", "/", b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
        ("POST", "/", b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
        ("GET", "/?Param2=value2&Param1=value1", b"", "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
        ("POST", "/", b"Param1=value1", "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ],
)
def test_aws_own_examples(botocore, monkeypatch, method, url, form, signature):
    """The Signature Version 4 test suite: get-vanilla, post-vanilla, get-vanilla-query-order-key-case, post-x-www-form-urlencoded."""
    auth = pytest.importorskip("botocore.auth")
    if not hasattr(auth, "get_current_datetime"):
        pytest.skip("this botocore takes the time elsewhere")
    monkeypatch.setattr(auth, "get_current_datetime", lambda *_: datetime(2015, 8, 30, 12, 36, tzinfo=UTC))
    headers = {"User-Agent": "not signed"} | ({"Content-Type": "application/x-www-form-urlencoded"} if form else {})
    added = Signer(KEYS, "us-east-1", "service").sign(method, "https://example.amazonaws.com" + url, headers, form)
    assert added["Authorization"].endswith("Signature=" + signature)
    assert added["X-Amz-Date"] == "20150830T123600Z"
    assert set(added) == {"Authorization", "X-Amz-Date"}


@pytest.mark.parametrize("path", ["/model/amazon.nova-lite-v1%3A0/converse", ARN])
def test_a_call_is_signed_as_specified(botocore, path):
    """A model's escaped path, the region of the host, the content type, and the body byte for byte."""
    headers = {"content-type": "application/json", "Accept": "*/*", "traceparent": "00-x", "Authorization": "Bearer of the client's"}
    body = b'{"messages":[]}'
    added = Signer(KEYS).sign("POST", BEDROCK + path, headers, body)
    assert added["Authorization"] == specified(added, BEDROCK + path, body, content_type="application/json")


def test_a_session_token_is_sent_and_signed(botocore):
    """Temporary credentials are worth nothing without their token."""
    keys = Keys(KEYS.access_key, KEYS.secret_key, "of-a-session")
    added = Signer(keys).sign("POST", BEDROCK + ARN, {}, b"{}")
    assert added["X-Amz-Security-Token"] == "of-a-session"
    assert added["Authorization"] == specified(added, BEDROCK + ARN, b"{}", x_amz_security_token="of-a-session")


def test_another_port_is_part_of_the_signed_host(botocore):
    """A proxy on a port of its own is signed for as it is called."""
    url = "http://127.0.0.1:8080/model/m/converse"
    added = Signer(KEYS, "eu-central-1").sign("POST", url, {"Host": "elsewhere"}, b"{}")
    assert added["Authorization"] == specified(added, url, b"{}")


def test_credentials_come_from_the_default_chain(botocore, anonymous, monkeypatch):
    """What is configured for every AWS tool of the machine is enough."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    signer = Signer()
    added = signer.sign("POST", BEDROCK + ARN, {}, b"{}")
    assert added["Authorization"] == specified(added, BEDROCK + ARN, b"{}")
    assert signer.is_fresh


def test_credentials_that_expire_are_refreshed(botocore):
    """A role's credentials last an hour; the signer asks for the next before they end, and says when it would."""
    credentials = pytest.importorskip("botocore.credentials")
    now = datetime.now(UTC)

    def keys(name: str, minutes: int) -> dict[str, str]:
        ends = (now + timedelta(minutes=minutes)).isoformat()
        return {"access_key": name, "secret_key": "s", "token": "t", "expiry_time": ends}

    signer = Signer(KEYS)
    signer._credentials = credentials.RefreshableCredentials.create_from_metadata(keys("OLD", 1), lambda: keys("NEW", 60), "test")
    assert not signer.is_fresh
    assert "Credential=NEW/" in signer.sign("POST", BEDROCK + ARN, {}, b"{}")["Authorization"]
    assert signer.is_fresh


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("CredentialRetrievalError", {"provider": "test", "error_msg": "of-nobody"}),
        ("ClientError", {"error_response": {"Error": {"Code": "AccessDenied", "Message": "of-nobody"}}, "operation_name": "AssumeRole"}),
        ("HTTPClientError", {"error": "of-nobody"}),
        ("RuntimeError", None),
        ("KeyError", None),
    ],
)
def test_a_role_that_cannot_be_refreshed_is_a_signing_error(botocore, name, said):
    """What botocore raises never reaches the relay, nor does what it says of credentials, not even in a traceback."""
    credentials, exceptions = pytest.importorskip("botocore.credentials"), pytest.importorskip("botocore.exceptions")
    error = getattr(exceptions, name)(**said) if said else getattr(builtins, name)("of-nobody")

    def refuse():
        raise error

    ends = (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
    old = {"access_key": "OLD", "secret_key": "s", "token": "t", "expiry_time": ends}
    signer = Signer(KEYS)
    signer._credentials = credentials.RefreshableCredentials.create_from_metadata(old, refuse, "test")
    with pytest.raises(SigningError, match=name) as raised:
        signer.sign("POST", BEDROCK + ARN, {}, b"{}")
    assert "of-nobody" not in "".join(traceback.format_exception(raised.value))


@pytest.fixture
def heard():
    """Everything that is logged by anyone at any level, with its tracebacks."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(self.format(record))

    listener = Listener(logging.DEBUG)
    names = ["", "botocore", "botocore.auth", "botocore.credentials"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    logging.root.addHandler(listener)
    yield lines
    logging.root.removeHandler(listener)
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


def test_no_secret_reaches_a_log(botocore, heard, anonymous, monkeypatch):
    """Whatever the level, of the root or of one logger: no key, token, signature or answer of a credential service."""
    credentials = pytest.importorskip("botocore.credentials")
    signer = Signer(Keys("AKIDEXAMPLE", "of-nobody", "of-a-session"))
    signature = signer.sign("POST", BEDROCK + ARN, {}, b"{}")["Authorization"].rpartition("=")[2]

    def refuse():
        raise RuntimeError("of-nobody")

    ends = (datetime.now(UTC) + timedelta(minutes=12)).isoformat()  # soon: botocore tries, warns with a traceback, and goes on
    old = {"access_key": "OLD", "secret_key": "of-nobody", "token": "of-a-session", "expiry_time": ends}
    signer._credentials = credentials.RefreshableCredentials.create_from_metadata(old, refuse, "test")
    signer.sign("POST", BEDROCK + ARN, {}, b"{}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-nobody")
    Signer()
    logging.getLogger("elsewhere").debug("was heard")
    told = "\n".join(heard)
    assert "was heard" in told
    for secret in ("of-nobody", "of-a-session", signature, "botocore"):
        assert secret not in told


def test_handlers_of_botocores_own_hear_nothing_either(botocore, heard):
    """Those that its `set_stream_logger` puts on its very logger, for who wants to debug."""
    listener, logger = logging.StreamHandler(io.StringIO()), logging.getLogger("botocore")
    logger.addHandler(listener)
    try:
        Signer(Keys("AKIDEXAMPLE", "of-nobody", "of-a-session")).sign("POST", BEDROCK + ARN, {}, b"{}")
    finally:
        logger.removeHandler(listener)
    told = listener.stream.getvalue()
    assert "of-a-session" not in told
    assert "AWS4-HMAC" not in told


def test_keys_do_not_show_themselves():
    """In a repr, or in a traceback that shows what names stand for."""
    keys = Keys("AKIDEXAMPLE", "of-nobody", "of-a-session")
    assert repr(keys) == str(keys) == "Keys(...)"
    assert keys.__rich_repr__() == []


def test_a_signer_does_not_show_its_credentials(botocore):
    """It is an object like any other."""
    assert "EXAMPLE" not in repr(Signer(KEYS))


@pytest.mark.parametrize(
    ("operation", "asked"),
    [
        ("Converse", {"modelId": "amazon.nova-lite-v1:0", "messages": [{"role": "user", "content": [{"text": "hi"}]}]}),
        ("ConverseStream", {"modelId": "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/us.a", "messages": []}),
        ("InvokeModelWithResponseStream", {"modelId": "meta.llama3:1", "body": b'{"prompt":"x"}', "contentType": "application/json"}),
    ],
)
def test_signatures_are_those_of_botocores_own_client(botocore, anonymous, operation, asked):
    """The request that a client of AWS's own makes, signed by us once more in the same second."""
    auth, exceptions = pytest.importorskip("botocore.auth"), pytest.importorskip("botocore.exceptions")
    session = pytest.importorskip("botocore.session").Session()
    session.set_credentials(KEYS.access_key, KEYS.secret_key, "of-a-session")
    sent = []

    def keep(request, **_):
        sent.append(request)
        raise exceptions.EndpointConnectionError(endpoint_url="none")

    try:
        client = session.create_client("bedrock-runtime", region_name="eu-central-1", endpoint_url=BEDROCK)
    except exceptions.UnknownServiceError:
        pytest.skip("this botocore knows no Bedrock")
    client.meta.config.retries = {"max_attempts": 1}
    client.meta.events.register("before-send.bedrock-runtime", keep)
    with pytest.raises(exceptions.EndpointConnectionError):
        client._make_api_call(operation, asked)
    request = sent[-1]
    theirs = {name: value.decode() if isinstance(value, bytes) else value for name, value in request.headers.items()}
    moment = datetime.strptime(theirs["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    signer = Signer(Keys(KEYS.access_key, KEYS.secret_key, "of-a-session"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auth, "get_current_datetime", lambda *_: moment)
        ours = signer.sign(request.method, request.url, theirs, request.body or b"")
    assert ours["Authorization"] == theirs["Authorization"]


def test_no_credentials_is_an_error_at_once(botocore, anonymous):
    """A gateway that can never sign says so before the first call."""
    with pytest.raises(SigningError, match="no AWS credentials"):
        Signer()


def test_without_botocore_the_error_says_what_to_install(monkeypatch):
    """The extra is optional, and its absence is explained."""
    monkeypatch.setitem(sys.modules, "botocore", None)
    monkeypatch.setitem(sys.modules, "botocore.credentials", None)
    with pytest.raises(SigningError, match="bedrock"):
        Signer(KEYS)


def test_importing_the_module_does_not_import_botocore():
    """Start-up does not pay for what is not configured."""
    code = "import sys, gateway.proxy.signing; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signing_imports_nothing(botocore):
    """What reads files has been done when the signer is made: signing may happen on the event loop."""
    code = (
        "import sys; from gateway.proxy.signing import Keys, Signer\n"
        "signer = Signer(Keys('a', 'b'), 'us-east-1'); before = set(sys.modules)\n"
        "signer.sign('POST', 'http://127.0.0.1/model/m/converse', {}, b'{}')\n"
        "sys.exit(any(name.startswith('botocore') for name in set(sys.modules) - before))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("bedrock-runtime.us-east-1.amazonaws.com", "us-east-1"),
        ("bedrock-runtime-fips.us-gov-west-1.amazonaws.com", "us-gov-west-1"),
        ("bedrock-runtime.cn-north-1.amazonaws.com.cn:443", "cn-north-1"),
        ("vpce-0a1b-2c3d.bedrock-runtime.ap-southeast-2.vpce.amazonaws.com", "ap-southeast-2"),
        ("bedrock-runtime.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
    ],
)
def test_the_region_is_part_of_the_host_name(host, region):
    """Wherever in the name it stands."""
    assert region_of(f"https://{host}/model/m/converse") == region


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "llm-proxy-1.example.com", "bedrock.example.com", ""])
def test_a_host_without_region_is_an_error(host):
    """A proxy's name tells nothing: the region must be configured."""
    with pytest.raises(SigningError, match="region"):
        region_of(f"https://{host}/model/m/converse")


async def test_an_upstream_that_cannot_be_signed_for_says_why(provide: Any, gate: Any, make: Any) -> None:
    """No region in the configuration nor in the host's name: 502 that names the reason, and nothing was asked."""
    pytest.importorskip("botocore")
    provider = await provide()
    aws = {"access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI"}
    weir = await gate(provider, dialects=["bedrock"], upstreams={"a": {"aws": aws}}, retry={"attempts": 1})
    client = await (await weir.client()).ask(make.post(b'{"messages":[]}', "/model/m/converse")).finish()
    assert (client.status, provider.total) == (502, 0)
    assert b"region" in client.body
    assert b"wJalr" not in client.raw
    record = await weir.record()
    assert record.attempts[0].error == "signing_failed"


async def test_calls_that_come_together_ask_for_credentials_once(
    provide: Any, gate: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many, and however soon the credentials will end."""
    pytest.importorskip("botocore")
    made = []
    aws = {"region": "eu-west-1", "access_key_id": "AKIDEXAMPLE", "secret_access_key": "wJalrXUtnFEMI"}
    provider = await provide()
    weir = await gate(provider, dialects=["bedrock"], upstreams={"a": {"aws": aws}})
    pool = weir.plane.pools["a"]
    make_signer = pool._signer
    monkeypatch.setattr(pool, "_signer", lambda: made.append(1) or make_signer())
    monkeypatch.setattr(Signer, "is_fresh", property(lambda _: False))
    call = make.post(b'{"messages":[{"role":"user","content":[{"text":"hello"}]}]}', "/model/m/converse")
    clients = [(await weir.client()).ask(call) for _ in range(5)]
    assert [(await client.finish()).status for client in clients] == [200] * 5
    assert len(made) == 1
    assert all("AWS4-HMAC-SHA256" in request.headers["authorization"] for request in provider.requests)
