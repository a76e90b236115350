"""The names of delays: a quantity alone for its mean, with `_p50`, `_p90`, `_p95` or `_p99` for a percentile."""

QUANTITIES = ("latency", "ttft", "tpot", "itl")
PERCENTS = (50, 90, 95, 99)
STATISTICS = ("", *(f"_p{percent}" for percent in PERCENTS))
DELAYS = tuple(quantity + statistic for quantity in QUANTITIES for statistic in STATISTICS)
GOOD_SHARE = 0.99  # of the requests must meet a goodput, unless told otherwise


def base(name: str) -> str:
    """The quantity that a name is a statistic of: of "ttft_p99" it is "ttft"."""
    return name.split("_")[0]
