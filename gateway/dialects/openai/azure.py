"""The Azure dialect: OpenAI's calls and answers behind doors that name a deployment in the path and an API version in the query.

Source: Azure OpenAI's data plane reference, and openai-python `lib/azure.py`, whose base URL ends where the path here begins. The
deployment decides which model answers; `model` in the body is not looked at there, so it stays what the client wrote.
Azure's newer `/openai/v1` surface is plain OpenAI: an upstream of the `openai` dialect with that base URL.
"""

from urllib.parse import quote

from gateway.core.call import Call, Operation
from gateway.core.errors import Rejected
from gateway.core.prompt import Prompt
from gateway.dialects.base import Asked, Endpoint, Outgoing
from gateway.dialects.lenient import encodable, path_segment
from gateway.dialects.openai.compose import compose
from gateway.dialects.openai.dialect import PATHS, OpenAI


class Azure(OpenAI):
    """The `azure` dialect."""

    name = "azure"
    models_paths: tuple[str, ...] = ()
    endpoints = tuple(Endpoint("POST", "/openai/deployments/{deployment}" + path, operation) for operation, path in PATHS.items())

    def parse_call(self, endpoint: Endpoint, body: bytes, asked: Asked) -> Call:
        deployment = encodable(asked.params.get("deployment", ""))
        if deployment in {"", ".", ".."}:
            raise Rejected("the path must name a deployment", code="invalid_model")
        version = asked.query.get("api-version", "")
        query = f"?api-version={quote(version, safe='', errors='replace')}" if version else ""  # all that may be passed on of a query
        return self._call(endpoint.operation, body, _path(deployment, endpoint.operation) + query, deployment)

    def outgoing(self, call: Call, model: str | None, inject_usage: bool) -> Outgoing:
        ours = call.dialect == self.name
        path = call.path if ours else _path(call.model, call.operation)
        if model is not None and model != call.model:
            path = "?".join((_path(model, call.operation), *path.split("?")[1:]))
        return Outgoing(path, self._asking(call, call.body, inject_usage))

    def credential(self, api_key: str) -> dict[str, str]:
        return {"api-key": api_key}

    def compose(self, prompt: Prompt) -> Call:
        return compose(prompt, self.name, _path(prompt.model, "chat"))


def _path(deployment: str, operation: Operation) -> str:
    return f"/openai/deployments/{path_segment(deployment)}{PATHS[operation]}"


AZURE = Azure()
