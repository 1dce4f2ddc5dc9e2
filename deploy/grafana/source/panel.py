"""What a panel is, and the PromQL that many of them share."""

from dataclasses import dataclass, field

# What the variables choose.
PROCESS = 'job=~"$job", instance=~"$instance"'
MODEL = f'{PROCESS}, model=~"$model"'
WINDOW = "$__rate_interval"


@dataclass(frozen=True)
class Query:
    """PromQL, and the name of a line."""

    expr: str
    legend: str


@dataclass(frozen=True)
class Panel:
    """One panel; `limits` are the values where it becomes orange and red."""

    title: str
    description: str
    queries: list
    unit: str
    kind: str = "timeseries"
    width: int = 12
    height: int = 8
    limits: tuple = ()
    low_is_bad: bool = False
    stacked: bool = False
    minimum: float | None = 0
    maximum: float | None = None
    names: dict = field(default_factory=dict)
    colours: dict = field(default_factory=dict)
    text: bool = False


def rate(metric, by, more="", of=PROCESS):
    """Per second, added up by some labels."""
    selector = f"{of}, {more}" if more else of
    return f"sum by ({by}) (rate({metric}{{{selector}}}[{WINDOW}]))"


def quantile(q, metric, of=PROCESS, by="le"):
    """What the part q of all stay below."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', by, of=of)})"


def quantiles(metric, of=PROCESS):
    """The median, and what one in ten and one in a hundred exceeds."""
    return [Query(quantile(q, metric, of), f"p{round(q * 100)}") for q in (0.5, 0.9, 0.99)]


def stat(title, description, expr, unit, limits=(), **more):
    """A number of the overview."""
    queries = [Query(expr, more.pop("legend", title))]
    return Panel(title, description, queries, unit, kind="stat", width=3, height=4, limits=limits, **more)


def spread(title, description, metric, unit, of=PROCESS, **more):
    """Quantiles over time, and beside them all buckets as a heatmap."""
    buckets = f"sum by (le) (increase({metric}_bucket{{{of}}}[{WINDOW}]))"
    heat = (
        f"{title}: every bucket, brighter where more fell into it. Two bands are two kinds of request; "
        "a band that climbs is the slowdown."
    )
    return [
        Panel(title, description, quantiles(metric, of), unit, **more),
        Panel(f"{title}, spread", heat, [Query(buckets, "{{le}}")], unit, kind="heatmap"),
    ]
