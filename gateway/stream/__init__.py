"""Between read and write: what a stream said and how steadily, from bytes and `now` alone.

cadence   when tokens arrived: gaps, stalls, bursts
observer  what the bytes say: times of first and last token, usage, finish, failure

The law: an observer can be blind, never harmful. It counts what it cannot read, keeps no text, and its memory does not grow with
the stream.
"""
