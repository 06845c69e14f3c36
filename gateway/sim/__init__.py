"""Providers and clients that do not exist, over sockets that do: what the demo, the bench and the tests run against.

Everything here is drawn from a seed: the same seed and the same ordinal of a request give the same text, the same pauses and the
same fault, so that a failure seen once can be seen again. Only raw protocols on the hot path: one timer a stream, no task an event.

tempers    how a provider speaks when all is well
faults     what can go wrong with one answer, and which answers it befalls
steps      what an answer is made of: send, pause, reset, end
drafts     the words of one answer, in no dialect
answers    an answer as OpenAI says it
voices     an answer as any other dialect says it, by that dialect's own writer
accents    what is special about each of those
refusals   how each provider refuses a call
doors      which provider a request means: one port serves all dialects
plan       an answer, a temper and a fault put together into steps
plays      what each fault makes of a healthy stream's steps
player     carries steps out on a transport
connection requests of one connection, answered one after the other
provider   the server
scenario   several providers and their changes over time, from YAML
load       many clients at once, and what each of them saw
witness    one such client: what it saw of one stream, however the answer was cut
processes  CPU and memory of other processes, from /proc
"""
