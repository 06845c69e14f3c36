"""`weir bench --chaos`: everything goes wrong at once, and afterwards every account of every stream must agree with every other.

Providers and clients live in this process and keep books of their own; the gateway between them is the real `weir serve`. The law:
a client gets its whole answer, byte for byte, or is told plainly that it did not; and what providers, clients, store, spans and metrics
say of a stream is the same. What a killed process takes with it is told as such, and must fit into the moments before it died.

ledger     what providers said, answer by answer
judge      what the bytes that a client got amount to
visitor    one client's connection
crowd      the clients, so many at once
town       providers, faults and configurations
mayhem     kills, reloads, replacements, and the scrapes before them
collector  spans, counted where they arrive
audit      all books compared
report     the tables
run        one run from start to end
"""
