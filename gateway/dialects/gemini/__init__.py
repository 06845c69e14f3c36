"""The Gemini dialect: generateContent, streamGenerateContent and countTokens, as Google's Gemini API speaks them.

dialect   doors, addresses, keys
failing   errors of the gateway, as bodies and as last words
config    what a request says of how to generate
chunks    the shape of its chunks, and what can be read of odd ones
reader    chunks to events
prompt    a request in no dialect, read from Gemini's words
compose   a request in Gemini's words, made from no dialect
schema    Gemini's own schema language, as JSON Schema
writer    events to chunks

Sources: the Gemini API reference (ai.google.dev/api), its proto3 JSON mapping, and how google-genai for Python, JavaScript and Go
reads streams.
"""

from gateway.dialects.gemini.dialect import GEMINI

__all__ = ["GEMINI"]
