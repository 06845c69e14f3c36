"""Bytes to frames and back, sans-io: everything here takes bytes and returns bytes or frames, and loses none of them.

sse       server-sent events: a parser that reads them and a cutter that finds where one ends
document  one JSON object: its top-level members, edited in place

The law: what goes in comes out. Frames joined are the input; an edited document differs only in the value that was asked for.
"""
