"""Every dashboard."""

from dashboards.overview import OVERVIEW
from dashboards.panels import Board
from dashboards.route import ROUTE
from dashboards.tenant import TENANT
from dashboards.upstream import UPSTREAM

BOARDS: tuple[Board, ...] = (OVERVIEW, ROUTE, UPSTREAM, TENANT)
