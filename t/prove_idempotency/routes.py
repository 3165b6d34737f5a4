"""The routes of the proof: every method that may be idempotent at an address
for each of the options that change how a write goes.
"""

from dataclasses import dataclass

METHODS = ("POST", "PUT", "PATCH", "DELETE")


@dataclass(frozen=True)
class Route:
    """keeps: the longest answer that is kept, in bytes; durable: a replica has
    its claims first."""
    path: str
    options: str = ""
    keeps: int = 256 << 10
    durable: bool = False


# What counts exactly asks for its limit and its claim at once, what does not
# has a lease of its limit and asks for the claim alone.
ROUTES = (
    Route("/v1/loads"),
    Route("/v1/counted", "limit=counted"),
    Route("/v1/durable", "durable=1", durable=True),
    Route("/v1/certain", "durable=1 limit=counted", durable=True),
    Route("/v1/large", "max_response=1m", keeps=1 << 20),
    Route("/v1/small", "max_response=8k limit=counted", keeps=8 << 10),
)

POLICIES = """keygate_policy default rate=60000r/m by=key;
    keygate_policy counted rate=60000r/m by=key exact;"""

# A longer request body is buffered to a file, bytes.
BUFFERED = 8 << 10

CONF = "keygate_routes partner {\n" + "".join(
    f"    {method} {route.path} loads:write idempotency=required "
    f"{route.options};\n" for route in ROUTES for method in METHODS) + "}"


def route_of(target):
    """The route of a request's target; KeyError when it has none."""
    return {route.path: route for route in ROUTES}[target]
