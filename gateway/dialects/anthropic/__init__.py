"""The `anthropic` dialect: the Messages API, as Anthropic and the servers that follow it speak it.

dialect   its doors, what is changed in a call, the list of models
failing   errors of the gateway, as bodies and as last words
reader    frames and documents to events
writer    events to frames and documents
prompt    a request of a client, said in no dialect
compose   a request in no dialect, said here

Sources: Anthropic's API reference; what its Python SDK does with a stream (`_streaming.py`, `lib/streaming/_messages.py`); llama.cpp's
`server-task.cpp` for what a local server says differently.
"""

from gateway.dialects.anthropic.dialect import ANTHROPIC

__all__ = ["ANTHROPIC"]
