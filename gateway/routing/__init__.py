"""Which target a call goes to, and why. Nothing here waits, reads a clock, rolls dice of its own or does I/O: `now` and `dice` come in.

estimate  how long a target takes to its first token
breaker   whether a target may be called at all
health    both for every target, the calls it has open, and the ticket of an attempt
policy    the order in which a route's targets are tried, and the deadline of each
explain   the same order in words
budget    how many extra attempts a route may make
window    two counts over the last seconds
"""
