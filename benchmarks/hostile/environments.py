"""Environments that a server may be started in: what orchestrators set, and what is mistyped.

The one list; test_environments.py reads the settings in each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Case:
    """Variables, the settings that come of them, or the text of the refusal."""

    name: str
    variables: Mapping[str, str]
    settings: Mapping[str, object] = field(default_factory=dict)
    refused: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def service(name: str, port: int) -> dict[str, str]:
    """What Kubernetes sets in every pod of the namespace for a service of that name."""
    upper, address = name.upper().replace("-", "_"), "10.0.0.1"
    linked = f"{upper}_PORT_{port}_TCP"
    return {
        f"{upper}_SERVICE_HOST": address,
        f"{upper}_SERVICE_PORT": str(port),
        f"{upper}_SERVICE_PORT_GRPC": str(port),
        f"{upper}_PORT": f"tcp://{address}:{port}",
        linked: f"tcp://{address}:{port}",
        f"{linked}_PROTO": "tcp",
        f"{linked}_PORT": str(port),
        f"{linked}_ADDR": address,
    }


def empty(name: str) -> Case:
    return Case(
        f"{name} is empty",
        {name: ""},
        refused=(f"{name} is empty; give it a value", "take it away"),
    )


DEFAULTS: Mapping[str, object] = {"port": 8001, "http_port": 8000, "metrics_port": 8002}

EMPTY = (
    *(
        "ATTAR_HOST",
        "ATTAR_PORT",
        "ATTAR_KEYS",
        "ATTAR_KEYS_FILE",
        "ATTAR_MODEL_REPOSITORY",
        "ATTAR_BUNDLES",
    ),
    *("ATTAR_TLS_CERT", "ATTAR_DATA_DIR", "ATTAR_TRITON", "ATTAR_QDRANT_URL", "ATTAR_VARIANT"),
    *("ATTAR_CONFIG", "ATTAR_LOG_FORMAT"),
)

CASES: tuple[Case, ...] = (
    Case("nothing", {}, DEFAULTS),
    Case("a service called attar", service("attar", 50051), DEFAULTS),
    Case("a service called attar-http", service("attar-http", 80), DEFAULTS),
    Case("a service called attar-metrics", service("attar-metrics", 9090), DEFAULTS),
    Case(
        "a service called attar-qdrant-grpc",
        service("attar-qdrant-grpc", 7000),
        {"qdrant_grpc_port": 6334},
    ),
    Case("a service called attar-max-items", service("attar-max-items", 1), {"max_items": 2048}),
    Case("a service of udp", {"ATTAR_PORT": "udp://10.0.0.1:53"}, DEFAULTS),
    Case("a port, and a service", {**service("attar", 80), "ATTAR_PORT": "9000"}, {"port": 9000}),
    Case("a service of somebody else's", service("guitar", 80), DEFAULTS),
    Case("an address that no service has", {"ATTAR_PORT": "http://a:1"}, refused=("ATTAR_PORT",)),
    Case("a port with blanks", {"ATTAR_PORT": " 9000 "}, {"port": 9000}),
    Case(
        "a mistyped setting",
        {"ATTAR_MAX_ITEM": "7"},
        refused=("'ATTAR_MAX_ITEM'", "ATTAR_MAX_ITEMS"),
    ),
    Case("a mistyped port", {"ATTAR_GRPC_PORT": "7"}, refused=("'ATTAR_GRPC_PORT'", "_PORT")),
    Case("a mistyped service", {"ATTAR_SERVICE": "a"}, refused=("'ATTAR_SERVICE'",)),
    *map(empty, EMPTY),
)


SLURM = {
    "SLURM_JOB_ID": "7",
    "SLURM_JOB_NAME": "train",
    "SLURM_NODELIST": "node1",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
}

TRAINED: Mapping[str, Mapping[str, str]] = {
    "a Slurm job of 4 tasks": {**SLURM, "SLURM_NTASKS": "4"},
    "a task of a Slurm job": {**SLURM, "SLURM_NTASKS": "2", "SLURM_PROCID": "1"},
    "a job of LSF": {"LSB_JOBID": "1", "LSB_DJOB_RANKFILE": "/none", "JSM_NAMESPACE_SIZE": "1"},
    "a process of MPI": {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"},
    "one pod of Kubeflow": {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "none"},
    "an empty WORLD_SIZE": {"WORLD_SIZE": ""},
}
"""Environments in which one process trains alone."""

NOT_TRAINED: Mapping[str, tuple[Mapping[str, str], tuple[str, ...]]] = {
    "two pods of Kubeflow": (
        {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "9"},
        ("WORLD_SIZE is 2 and LOCAL_WORLD_SIZE not set", "by torchrun"),
    ),
    "a local size that does not part it": (
        {"WORLD_SIZE": "3", "LOCAL_WORLD_SIZE": "2"},
        ("WORLD_SIZE is 3 and LOCAL_WORLD_SIZE 2", "by torchrun"),
    ),
    "a WORLD_SIZE in words": ({"WORLD_SIZE": "two"}, ("WORLD_SIZE is 'two'", "take it away")),
    "a WORLD_SIZE of none": ({"WORLD_SIZE": "0"}, ("WORLD_SIZE is '0'", "take it away")),
    "a negative WORLD_SIZE": ({"WORLD_SIZE": "-2"}, ("WORLD_SIZE is '-2'", "take it away")),
}
"""Environments in which training would wait for processes that nobody starts."""
