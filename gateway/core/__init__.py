"""The nouns: what a call, an event, a record and an error are. Nothing here imports anything else of Weir, nor a clock, a socket or a loop.

call      what a client asked for
events    what a stream says, whatever its dialect
record    the one account of one stream
owners    who owned each moment of it
messages  what a worker tells the recorder
errors    everything that can go wrong, with its status and code
buckets   the bounds of every histogram
"""
