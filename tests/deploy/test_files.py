"""The container, Compose, balancer and Kubernetes files agree with the code: ports, paths, names, times, versions."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs among the locked packages

from llmwise.api.routes import ROUTES
from llmwise.cli.serve import KEEP_ALIVE_S
from llmwise.config import Config, parse

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
CONTAINERFILE = (DEPLOY / "Containerfile").read_text()
HAPROXY = (DEPLOY / "haproxy.cfg").read_text()
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
MANIFESTS = [
    document
    for file in sorted(KUBERNETES.glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if document["kind"] != "Kustomization"
]

URLS = {"LLMWISE_DATABASE_URL": "postgresql://u:p@db/llmwise", "LLMWISE_STATE_URL": "valkey://valkey:6379/0"}


def manifest(kind: str) -> dict[str, Any]:
    (found,) = [document for document in MANIFESTS if document["kind"] == kind]
    return dict(found)


def gateway() -> dict[str, Any]:
    (container,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return dict(container)


def config(name: str = "llmwise.toml") -> Config:
    return parse((DEPLOY / name).read_text(), source=name, environ=URLS | {"OPENAI_API_KEY": "sk-1"})


def named_in(text: str) -> set[str]:
    return set(re.findall(r'"env:(\w+)"', text))


@pytest.mark.parametrize("name", ["llmwise.toml", "mock.toml"])
def test_the_configurations_are_valid_and_name_only_secrets_that_the_deployments_bring(name: str) -> None:
    config(name)
    named = named_in((DEPLOY / name).read_text())
    assert named <= manifest("Secret")["stringData"].keys()
    assert named <= COMPOSE["services"]["gateway"]["environment"].keys()


def test_kubernetes_and_compose_have_the_same_configuration() -> None:
    assert (KUBERNETES / "llmwise.toml").read_text() == (DEPLOY / "llmwise.toml").read_text()
    real, mock = config(), config("mock.toml")
    assert (real.server, real.storage, real.state) == (mock.server, mock.storage, mock.state)


def test_probes_ask_routes_that_need_no_key() -> None:
    free = {route.path for route in ROUTES if route.method == "GET" and route.access == "open"}
    asked = {gateway()[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "readiness", "liveness")}
    asked |= set(re.findall(r"http://127\.0\.0\.1:8080(/\w+)", CONTAINERFILE))
    asked |= set(re.findall(r"http-check send meth GET uri (\S+)", HAPROXY))
    assert asked == {"/healthz", "/readyz"}
    assert asked <= free


def test_ports_agree() -> None:
    port = config().server.port
    assert f"\nEXPOSE {port}\n" in CONTAINERFILE
    assert f"http://127.0.0.1:{port}/healthz" in CONTAINERFILE
    assert f" gateway:{port} check" in HAPROXY
    (named,) = gateway()["ports"]
    assert named == {"name": "http", "containerPort": port}
    assert manifest("Service")["spec"]["ports"][0]["targetPort"] == "http"
    (let_in,) = manifest("NetworkPolicy")["spec"]["ingress"]
    assert [one["port"] for one in let_in["ports"]] == [port]
    (bound,) = re.findall(r"bind :(\d+)", HAPROXY)
    assert COMPOSE["services"]["balancer"]["ports"] == [f"127.0.0.1:{bound}:{bound}"]


def test_a_replica_has_the_time_to_drain() -> None:
    drain_s = config().server.drain_s
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    before_s = gateway()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > before_s + 2 * drain_s
    assert float(COMPOSE["services"]["gateway"]["stop_grace_period"].removesuffix("s")) > 2 * drain_s


def test_the_balancer_waits_longer_than_the_gateway_and_keeps_connections_shorter() -> None:
    seconds = {name: float(value) for name, value in re.findall(r"timeout (\S+)\s+(\d+)s\b", HAPROXY)}
    assert seconds["server"] > config().timeouts.total_s
    assert seconds["http-keep-alive"] < KEEP_ALIVE_S


def test_every_image_has_a_version_and_ours_is_this_one() -> None:
    images = {service["image"] for service in COMPOSE["services"].values()}
    images |= set(re.findall(r"^FROM (\S+)", CONTAINERFILE, re.MULTILINE))
    ours = {image for image in images if image.startswith("llmwise:")}
    assert ours == {f"llmwise:{VERSION}"}
    assert all(re.search(r":\d+\.\d+(\.\d+)?(-\w+)*$", image) for image in images), images
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    (image,) = kustomization["images"]
    assert (image["name"], image["newTag"]) == (gateway()["image"], VERSION)
    (job,) = manifest("Job")["spec"]["template"]["spec"]["containers"]
    assert job["image"] == f"{image['newName']}:{VERSION}"


def test_the_container_installs_a_lock_with_hashes_that_has_the_shared_parts() -> None:
    assert "--require-hashes -r /build/container.txt" in CONTAINERFILE
    lock = (ROOT / "requirements" / "container.txt").read_text()
    packages = re.findall(r"^([\w.-]+)==\S+ \\\n    --hash=sha256:[0-9a-f]{64}", lock, re.MULTILINE)
    assert len(packages) == lock.count("==")
    assert {"psycopg-binary", "redis", "uvicorn", "hatchling"} <= {*packages}


def test_what_the_container_copies_is_let_through() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", CONTAINERFILE, re.MULTILINE)
    let_through = (ROOT / ".dockerignore").read_text().split()
    for path in " ".join(copied).split():
        assert (ROOT / path).exists(), path
        assert f"!{path}" in let_through


def test_nobody_is_root_and_nothing_is_writable_but_the_spool() -> None:
    assert re.search(r"^USER 10001:10001$", CONTAINERFILE, re.MULTILINE)
    for kind in ("Deployment", "Job"):
        pod = manifest(kind)["spec"]["template"]["spec"]
        assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            context = container["securityContext"]
            assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
            assert context["capabilities"] == {"drop": ["ALL"]}
    writable = {one["mountPath"] for one in gateway()["volumeMounts"] if not one.get("readOnly")}
    assert writable == {"/var/lib/llmwise", "/tmp"}
    assert config().storage.spool.startswith("/var/lib/llmwise/")


def test_the_autoscaler_owns_the_number_of_replicas() -> None:
    assert "replicas" not in manifest("Deployment")["spec"]
    scaler = manifest("HorizontalPodAutoscaler")["spec"]
    assert scaler["scaleTargetRef"]["name"] == manifest("Deployment")["metadata"]["name"]
    assert scaler["minReplicas"] > manifest("PodDisruptionBudget")["spec"]["maxUnavailable"]


def test_every_file_of_kubernetes_is_applied_or_says_why_not() -> None:
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    apart = {"kustomization.yaml", "first-key.yaml", "secret.example.yaml"}
    assert {*kustomization["resources"]} == {file.name for file in KUBERNETES.glob("*.yaml")} - apart


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_kustomize_puts_one_label_into_every_selector() -> None:
    made = subprocess.run(["kubectl", "kustomize", str(KUBERNETES)], capture_output=True, text=True, timeout=30)
    assert made.returncode == 0, made.stderr
    labels = {"app.kubernetes.io/name": "llmwise"}
    found = {document["kind"]: document for document in yaml.safe_load_all(made.stdout)}
    assert found["Service"]["spec"]["selector"] == labels
    assert found["PodDisruptionBudget"]["spec"]["selector"] == {"matchLabels": labels}
    assert found["NetworkPolicy"]["spec"]["podSelector"] == {"matchLabels": labels}
    (volume,) = [one for one in found["Deployment"]["spec"]["template"]["spec"]["volumes"] if one["name"] == "config"]
    assert volume["configMap"]["name"] == found["ConfigMap"]["metadata"]["name"] != "llmwise-config"


def test_compose_mounts_what_there_is() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", ()):
            source = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", volume).split(":")[0]
            assert source in COMPOSE["volumes"] or (DEPLOY / source).is_file(), volume
