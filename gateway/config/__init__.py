"""routes.yaml as frozen values, or file:line:col of everything that is wrong with it.

model, route   what may be said, with its defaults
values         how durations, sizes, percentages and ${VAR} are written
addresses      what leads to other machines: URLs, hosts, headers, secrets
matching       patterns with `*`
source         YAML -> texts and where they stand
problems       what is wrong, in words
load           all of it together
schema         JSON Schema for editors, and the list of keys
"""

from gateway.config.load import load, load_admin, override, parse
from gateway.config.model import Admin, Config, Otlp, Sampling, Server, Store, Telemetry, Upstream
from gateway.config.problems import ConfigErrors, Problem
from gateway.config.route import Adaptive, Breaker, Client, FirstToken, Match, Retry, Route, Slo, Stall, Target
from gateway.config.schema import all_keys, json_schema
from gateway.config.values import show_duration, show_percentage, show_size

__all__ = [
    "Adaptive",
    "Admin",
    "Breaker",
    "Client",
    "Config",
    "ConfigErrors",
    "FirstToken",
    "Match",
    "Otlp",
    "Problem",
    "Retry",
    "Route",
    "Sampling",
    "Server",
    "Slo",
    "Stall",
    "Store",
    "Target",
    "Telemetry",
    "Upstream",
    "all_keys",
    "json_schema",
    "load",
    "load_admin",
    "override",
    "parse",
    "show_duration",
    "show_percentage",
    "show_size",
]
