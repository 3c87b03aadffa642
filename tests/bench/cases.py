"""The table that `make bench` measures: what is compared with whom, and what must hold."""
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One row: a load, the proxies that take it in turn, and the bound on portcullis ÷ `against`."""

    name: str
    title: str
    variant: str
    proxies: tuple[str, ...]
    against: str
    must: float
    aim: float
    load: tuple[str, ...] = ()
    # portcullis under the same load, set up otherwise: the load and variant for `against` where that is itself.
    other: tuple[str, tuple[str, ...]] | None = None


WINDOW = ("--dur", "1.5", "--warm", "0.5")
# Short enough that 60,000 RS256 tokens last for the window without one coming twice.
NEW_TOKENS = ("--dur", "1.0", "--warm", "0.3")
# Every key of the limit is in its table before the window begins.
FILLED = ("--dur", "2", "--warm", "28", "--spread", "10000,1000000")

CASES = [
    Case("tls", "TLS, HTTP/1.1, 32 connections", "tls", ("haproxy", "nginx", "envoy"), "haproxy", 1.10, 0.80, WINDOW),
    Case("tls-256", "TLS, HTTP/1.1, 256 connections", "tls", ("haproxy", "nginx"), "haproxy", 0.95, 0.55, (*WINDOW, "--conns", "256")),
    Case("tls-h2", "TLS, HTTP/2, 8 connections × 4 streams", "tls", ("haproxy", "nginx", "envoy"), "haproxy", 1.60, 1.00, ("--dur", "2", "--proto", "h2")),
    Case("mtls", "mutual TLS, HTTP/1.1, 32 connections", "mtls", ("haproxy", "nginx", "envoy"), "haproxy", 1.10, 0.80, WINDOW),
    Case("jwt-repeated", "TLS + JWT (ES256) + limit, 1,000 tokens in turn", "es256rl", ("envoy-cache", "haproxy"), "envoy-cache", 0.35, 0.25, (*WINDOW, "--tokens", "es.1k")),
    Case("es256-new", "the same, every token new (ES256)", "es256rl", ("haproxy",), "haproxy", 0.90, 0.75, (*NEW_TOKENS, "--tokens", "es.all")),
    Case("rs256-new", "TLS + JWT, every token new (RS256)", "rs256", ("haproxy",), "haproxy", 0.90, 0.70, (*NEW_TOKENS, "--tokens", "rs.all")),
    Case("scale", "10,000 routes and policies, 1 M limiter keys", "scale-10000", ("portcullis-10",), "portcullis-10", 1.20, 1.10, FILLED, ("scale-10", (*WINDOW, "--spread", "10,10"))),
]
