"""The recorder's plane. Its law: telemetry cannot hurt the relay; what cannot be told is dropped and counted, never waited for.

link         the worker's end of the bridge, the only file here that the data plane may import
feed         the recorder's end: packets in, acknowledgements out
recorder     receives every message and tells every audience of each stream's one account
account      a finished record and the figures that follow from it, worked out once
live         streams begun and not yet ended, and what each worker last said of itself
batches      one thread, one bounded queue: how every slow audience is written to
spans        account -> OpenTelemetry span, one table of attributes; export sends them
instruments  the one table of metrics; metrics is their state, tally what one account adds, labels keeps them bounded
prometheus   /metrics; otlp_metrics the same figures pushed
store        SQLite; accesslog one JSON line a stream; cost what it cost
"""
