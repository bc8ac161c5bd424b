"""deploy/: what this project does not run here is linted, and every name in it exists."""

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from attar.server.observability.metrics import Metrics, ModelMetrics
from attar.server.observability.metrics_server import ROUTES
from attar.server.settings import Settings, read, variable

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_named_in_the_words_exists(path: Path) -> None:
    for name in re.findall(r"\b(?:deploy|tests|benchmarks)/[\w.]+\b", path.read_text("utf-8")):
        assert (ROOT / name).exists(), name


COMPOSE = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))
MANIFESTS = {
    one["kind"]: one
    for one in yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text("utf-8"))
}
UNIT = ROOT / "deploy" / "attar.service"
DASHBOARD = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))
VARIABLES = {variable(name): name for name in Settings.model_fields}
IMAGE = "attar:0.1.0"


@dataclass(frozen=True)
class Ready:
    name: str = "m"
    version: str = "1"
    ready: bool = True
    waiting: tuple[int, int] = (0, 0)


@pytest.fixture(scope="module")
def samples() -> dict[str, set[str]]:
    """Give the labels of every sample that a server has."""
    metrics = Metrics(["x"])
    ModelMetrics(metrics, "m")
    metrics.watch([Ready()])
    return {
        sample.name: set(sample.labels)
        for family in metrics.registry.collect()
        for sample in family.samples
    }


def named(text: str) -> set[str]:
    """Give the metrics that a text names."""
    return set(re.findall(r"\battar_[a-z_]+\b", text))


def panels() -> Iterator[Any]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def test_every_query_of_the_dashboard_names_metrics_and_labels_that_exist(
    samples: dict[str, set[str]],
) -> None:
    for panel in panels():
        for target in panel["targets"]:
            metrics = named(target["expr"])
            assert metrics, panel["title"]
            assert metrics <= samples.keys(), panel["title"]
            known = {"instance"}.union(*(samples[name] for name in metrics))
            used = set(re.findall(r"(\w+)=~", target["expr"]))
            for names in re.findall(r"by \(([^)]*)\)", target["expr"]):
                used |= {name.strip() for name in names.split(",")}
            shown = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used | shown <= known, panel["title"]
    for chosen in DASHBOARD["templating"]["list"]:
        assert named(str(chosen["query"])) <= samples.keys()


def test_the_dashboard_shows_every_metric(samples: dict[str, set[str]]) -> None:
    shown = set().union(*(named(t["expr"]) for panel in panels() for t in panel["targets"]))

    families = {re.sub(r"_(bucket|sum|count|total|created)$", "", name) for name in samples}
    assert families == {re.sub(r"_(bucket|sum|count|total)$", "", name) for name in shown}


def test_the_dashboards_panels_are_its_own_and_lie_apart() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    taken = {
        (x, y)
        for panel in DASHBOARD["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }

    assert len(ids) == len(set(ids))
    assert len(taken) == sum(p["gridPos"]["w"] * p["gridPos"]["h"] for p in DASHBOARD["panels"])
    assert max(x for x, _ in taken) < 24


def served(environment: dict[str, str], arguments: list[str]) -> Settings:
    """Give the settings that a deployment starts the server with."""
    assert environment.keys() <= VARIABLES.keys()
    given = {VARIABLES[name]: value for name, value in environment.items()}
    return read([*arguments, *(f"--{k.replace('_', '-')}={v}" for k, v in given.items())])


def test_compose_starts_a_server_whose_every_name_exists() -> None:
    attar = COMPOSE["services"]["attar"]
    chosen = served(attar["environment"], attar["command"])
    mounts = dict(volume.split(":")[:2] for volume in attar["volumes"])
    targets = {target: source for source, target in mounts.items()}

    assert str(chosen.keys_file) == f"/run/secrets/{attar['secrets'][0]}"
    assert set(attar["secrets"]) <= COMPOSE["secrets"].keys()
    assert all(str(bundle).startswith("/bundles/") for bundle in chosen.bundles)
    assert targets["/data"] in COMPOSE["volumes"]
    assert float(attar["stop_grace_period"].removesuffix("s")) > chosen.grace_s
    assert f"attar:{chosen.metrics_port}" in COMPOSE["configs"]["prometheus"]["content"]
    assert chosen.allowed_hosts == ("attar",)
    assert set(attar["ports"]) == {
        f"127.0.0.1:{port}:{port}" for port in (chosen.port, chosen.http_port)
    }


def test_compose_publishes_to_this_machine_only_and_mounts_what_exists() -> None:
    for service in COMPOSE["services"].values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:")
        for config in service.get("configs", ()):
            assert yaml.safe_load(COMPOSE["configs"][config["source"]]["content"])
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            if source.startswith("./") and source != "./bundles":
                assert (ROOT / source).exists(), source
        if "build" not in service:
            assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"])
    assert COMPOSE["services"]["attar"]["image"] == IMAGE


def container() -> Any:
    (only,) = MANIFESTS["Deployment"]["spec"]["template"]["spec"]["containers"]
    return only


def test_the_pods_start_a_server_whose_every_name_exists() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    environment = {one["name"]: one["value"] for one in container()["env"]}
    chosen = served(environment, container()["args"])
    ports = {one["name"]: one["containerPort"] for one in container()["ports"]}
    mounts = {one["mountPath"]: one["name"] for one in container()["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}

    assert ports == {
        "http": chosen.http_port,
        "grpc": chosen.port,
        "metrics": chosen.metrics_port,
    }
    assert chosen.keys_file is not None
    assert volumes[mounts[str(chosen.keys_file.parent)]]["secret"]["defaultMode"] & 0o007 == 0
    assert mounts["/data"] in volumes
    assert set(mounts.values()) == volumes.keys()
    assert container()["resources"]["limits"]["cpu"] == str(chosen.threads)
    assert container()["image"] == IMAGE


def test_the_probes_ask_the_port_of_a_thread_of_its_own_and_the_pod_outlives_its_grace() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]
    pause = container()["lifecycle"]["preStop"]["sleep"]["seconds"]

    for probe, path in (("startup", "/readyz"), ("readiness", "/readyz"), ("liveness", "/livez")):
        assert container()[f"{probe}Probe"]["httpGet"] == {"path": path, "port": "metrics"}
        assert path in ROUTES
    assert pod["terminationGracePeriodSeconds"] > pause + read(["x.attar"]).grace_s


def test_the_manifests_select_the_pods_and_follow_a_metric_that_exists(
    samples: dict[str, set[str]],
) -> None:
    deployment, scaler = MANIFESTS["Deployment"], MANIFESTS["HorizontalPodAutoscaler"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    (metric,) = scaler["spec"]["metrics"]

    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        MANIFESTS["Service"]["spec"]["selector"],
        MANIFESTS["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for port in MANIFESTS["Service"]["spec"]["ports"]:
        (named,) = [one for one in container()["ports"] if one["name"] == port["targetPort"]]
        assert port["port"] == named["containerPort"]
    assert annotations["prometheus.io/port"] == "8002"
    assert scaler["spec"]["scaleTargetRef"] == {
        "apiVersion": deployment["apiVersion"],
        "kind": "Deployment",
        "name": deployment["metadata"]["name"],
    }
    assert metric["pods"]["metric"]["name"] in samples
    assert MANIFESTS["PodDisruptionBudget"]["spec"]["minAvailable"] < scaler["spec"]["minReplicas"]


@pytest.mark.parametrize(
    ("kind", "version"),
    [
        ("Deployment", "apps/v1"),
        ("Service", "v1"),
        ("HorizontalPodAutoscaler", "autoscaling/v2"),
        ("PodDisruptionBudget", "policy/v1"),
    ],
)
def test_every_manifest_has_the_version_of_its_kind(kind: str, version: str) -> None:
    assert MANIFESTS[kind]["apiVersion"] == version
    assert MANIFESTS[kind]["metadata"]["name"] == "attar"


def test_nothing_in_a_pod_runs_as_root_or_writes_where_it_need_not() -> None:
    pod = MANIFESTS["Deployment"]["spec"]["template"]["spec"]

    assert pod["securityContext"]["runAsNonRoot"]
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def unit() -> configparser.RawConfigParser:
    parsed = configparser.RawConfigParser(strict=False)
    parsed.optionxform = str  # type: ignore[assignment,method-assign]
    parsed.read_string(UNIT.read_text("utf-8"))
    return parsed


def test_the_unit_starts_a_server_whose_every_setting_exists() -> None:
    lines = re.findall(r"^Environment=(.+)$", UNIT.read_text("utf-8"), re.MULTILINE)
    program, command, *arguments = shlex.split(unit()["Service"]["ExecStart"])
    environment = dict(line.split("=", 1) for line in lines)
    assert environment.pop("ORT_DISABLE_TELEMETRY") == "1"
    chosen = served(environment, arguments)
    credential = unit()["Service"]["LoadCredential"].split(":")[0]

    assert (Path(program).name, command) == ("attar", "serve")
    assert str(chosen.keys_file) == f"%d/{credential}"
    assert str(chosen.data_dir) == f"%S/{unit()['Service']['StateDirectory']}"
    assert float(unit()["Service"]["TimeoutStopSec"]) > chosen.grace_s


def test_systemd_finds_nothing_in_the_unit(tmp_path: Path) -> None:
    systemd = shutil.which("systemd-analyze")
    if systemd is None:
        pytest.skip("systemd-analyze is not on this machine")
    program = shlex.split(unit()["Service"]["ExecStart"])[0]
    checked = tmp_path / UNIT.name
    checked.write_text(UNIT.read_text("utf-8").replace(program, sys.executable), "utf-8")
    done = subprocess.run(
        [systemd, "verify", str(checked)], capture_output=True, text=True, timeout=60, check=False
    )

    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_every_deployment_works_in_a_folder_where_nothing_lies() -> None:
    """A relative path in a bundle, if a check let it pass, leads nowhere."""
    service = unit()["Service"]
    image = re.findall(r"^WORKDIR (.+)$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)[
        -1
    ]
    mounts = [volume.split(":")[1] for volume in COMPOSE["services"]["attar"]["volumes"]]
    mounts += [one["mountPath"] for one in container()["volumeMounts"]]

    assert service["WorkingDirectory"] == f"%t/{service['RuntimeDirectory']}"
    assert COMPOSE["services"]["attar"]["working_dir"] == container()["workingDir"] == image
    for mount in mounts:
        assert not Path(mount).is_relative_to(image)
        assert not Path(image).is_relative_to(mount)
