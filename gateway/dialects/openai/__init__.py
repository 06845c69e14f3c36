"""The OpenAI family: one way to ask and to answer, at OpenAI's own addresses and at Azure's.

shapes, odd   what chunks look like, and what they look like when something in them has the wrong type
reader        chunks and documents -> events
request       the few members of a request Weir acts on, and the one it may add
prompt        a request -> a prompt
compose       a prompt -> a request
writer        events -> chunks and documents
dialect       all of it together, for whoever speaks as OpenAI does
azure         the same behind Azure's doors
"""

from gateway.dialects.openai.azure import AZURE
from gateway.dialects.openai.dialect import OPENAI

__all__ = ["AZURE", "OPENAI"]
