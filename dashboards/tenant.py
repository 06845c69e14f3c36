"""Who spends what: cost by tenant and by route."""

from dashboards.panels import Board, Panel, Query, Row

HERE = 'job=~"$job", tenant=~"$tenant", route=~"$route"'
EACH = "[$__rate_interval]"

SPENT = Row(
    "Who spends what",
    (
        Panel(
            title="Cost by tenant",
            about="US dollars an hour by public list prices, of streams whose usage and price are known. One tenant `none`: no tenants are "
            "configured.",
            queries=(Query(f"sum by (tenant) (rate(weir_cost_usd_total{{{HERE}}}{EACH})) * 3600", "{{tenant}}"),),
            unit="currencyUSD",
            width=12,
            stacked=True,
        ),
        Panel(
            title="Cost by route",
            about="The same by route: which of its uses a tenant pays for.",
            queries=(Query(f"sum by (tenant, route) (rate(weir_cost_usd_total{{{HERE}}}{EACH})) * 3600", "{{tenant}}, {{route}}"),),
            unit="currencyUSD",
            width=12,
            stacked=True,
        ),
        Panel(
            title="Spent in this time",
            about="US dollars over the time that is shown.",
            queries=(Query(f"sum by (tenant) (increase(weir_cost_usd_total{{{HERE}}}[$__range]))", "{{tenant}}"),),
            unit="currencyUSD",
            kind="stat",
            width=12,
        ),
        Panel(
            title="Streams whose cost is unknown",
            about="Streams a second that spoke and whose provider never said how many tokens they held: their cost is in none of these.",
            queries=(Query(f'sum by (route) (rate(weir_streams_without_usage_total{{job=~"$job", route=~"$route"}}{EACH}))', "{{route}}"),),
            unit="reqps",
            width=12,
        ),
    ),
)

TENANT = Board(
    uid="weir-tenant",
    title="Weir / Tenant",
    about="Who spends what.",
    variables={
        "job": "label_values(weir_build_info, job)",
        "tenant": 'label_values(weir_cost_usd_total{job=~"$job"}, tenant)',
        "route": 'label_values(weir_cost_usd_total{job=~"$job", tenant=~"$tenant"}, route)',
    },
    rows=(SPENT,),
)
