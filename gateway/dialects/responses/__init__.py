"""OpenAI's Responses API: answers as typed items, streamed as named, numbered events that end with the whole response.

dialect   the dialect as a whole: calls, addresses, credential, errors
reader    frames to events
documents whole responses to events
prompt    a request in no dialect
talk      the items of a request as turns
compose   a request of this dialect
items     what a response is made of
writer    events to frames and documents
"""

from gateway.dialects.responses.dialect import RESPONSES

__all__ = ["RESPONSES"]
