"""PromptLayer: the keys of its API reference that join a span to a template; `gen_ai.*` it reads itself, docs.promptlayer.com."""

from gateway.telemetry.spans import Attribute

PROMPTLAYER = (
    Attribute("promptlayer.prompt.name", "from x-weir-prompt-name", lambda a: a.record.prompt_name),
    Attribute("promptlayer.prompt.version", "from x-weir-prompt-version", lambda a: a.record.prompt_version),
)
