"""The path of a byte: from a client's socket to an upstream's and back, and nothing else.

handler   walks one stream through its life and closes its record exactly once
attempts  tries targets until one speaks; a loser's bytes never leave this room
relay     moves the winner's bytes: cut, write, check the water mark, observe
reply     the client's side of a stream
upstream  connections that push every read into a sink, and their pool
tape      what a stream has said of late, event by event
taped     streams that outlive their clients' connections, and those that come back for them
dial      sockets: names, happy eyeballs, proxies, TLS, and one map of what can go wrong
watch     the only clock that ticks: stalls, kill timers, keepalives, the loop's own lateness
headers   what may cross the gateway, each way
"""
