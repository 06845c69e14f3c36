"""The Ollama dialect: chat, generate and embed as an Ollama server speaks them, one JSON object a line.

Its law: a line is whole or nothing. Nothing of ours stands between two lines, for Ollama's own client reads every line as JSON; tool
calls come in one piece with their arguments as an object; the line that says `done` is the end.

dialect  calls, addresses, credential, errors
reader   lines to events
prompt   a client's chat request to a prompt
compose  a prompt to a chat request
writer   events to lines, and to an answer in one piece
words    what the others share: words for why an answer ended, JSON on one line
"""

from gateway.dialects.ollama.dialect import OLLAMA

__all__ = ["OLLAMA"]
