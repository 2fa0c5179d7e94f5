"""The servers of the stack, and the setting that puts the user's own server in a part's place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from deploy.local import edge, nats, postgres, seaweedfs, traces_program
from deploy.local.home import Home
from deploy.local.program import Program


@dataclass(frozen=True, slots=True)
class Part:
    """One server of the stack.

    Attributes:
        name: also its program's name.
        replaced_by: the setting that, when the user gives it, names their own server; ours is not started.
        settings: what our own server is called, before anything of the user's is laid over it.
        program: writes the server's configuration and describes its process, from the final settings.
    """

    name: str
    replaced_by: str
    settings: Callable[[Home], dict[str, str]]
    program: Callable[[Home, Mapping[str, str]], Program]


ALL: Final = (
    Part("seaweedfs", "MILLRACE_S3_ENDPOINT_URL", seaweedfs.settings, seaweedfs.program),
    Part("postgres", "MILLRACE_DATABASE_URL", postgres.settings, postgres.program),
    Part("nats", "MILLRACE_NATS_URL", nats.settings, nats.program),
    Part("traces", "MILLRACE_OTLP_ENDPOINT", traces_program.settings, traces_program.program),
    Part("edge", "MILLRACE_EDGE_URL", edge.settings, edge.program),
)
