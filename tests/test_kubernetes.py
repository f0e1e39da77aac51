"""Check the files in kubernetes/ without a cluster: against Kubernetes' schemas, the images and the settings.

Not checked is whether the chart knows every key of values.yaml: its schema is in no package. Helm checks it.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer.main
import yaml

from recsys.settings import Settings, TrainingSettings, load_settings
from tests.compose_file import DOCKERFILE, REPOSITORY, dockerfile_environment, load_compose_file
from tests.kubernetes_files import (
    FOLDER,
    NAMESPACE,
    Manifest,
    as_json,
    chart_secrets,
    create_secrets,
    load_kustomization,
    load_manifests,
    load_pod_templates,
    load_settings_file,
    load_values,
    pods,
)

# Airflow writes its configuration file when it is imported, by default into the user's home folder.
os.environ.setdefault("AIRFLOW_HOME", str(REPOSITORY / ".pytest_cache" / "airflow"))

# The oldest version that the chart supports, and the newest with a schema.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
PODS = pods()
TASKS = sorted(name for name in PODS if name.startswith("task-"))
VALUES = load_values()
# Objects of the chart's release `airflow`.
CHART_CONFIG_MAPS = {"airflow-config"}
CHART_SERVICES = {"airflow-api-server": 8080}


def _validate(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(as_json(manifest), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_follows_the_schema_of_kubernetes(version: str) -> None:
    objects = [*load_manifests(), *load_pod_templates().values()]
    assert len(objects) > 15
    for manifest in objects:
        _validate(manifest, version)


@pytest.mark.parametrize("version", VERSIONS)
def test_schema_rejects_a_misspelt_key(version: str) -> None:
    broken = load_pod_templates()["gpu"]
    broken["spec"]["toleration"] = broken["spec"].pop("tolerations")

    with pytest.raises(kubernetes_validate.ValidationError, match="toleration"):
        _validate(broken, version)


def test_every_file_is_used() -> None:
    kustomization = load_kustomization()
    used = {"kustomization.yaml", "values.yaml", "create-secrets.sh", *kustomization["resources"]}
    for generated in kustomization["configMapGenerator"]:
        used |= {*generated.get("files", []), *generated.get("envs", [])}

    assert used == {str(path.relative_to(FOLDER)) for path in FOLDER.rglob("*") if path.is_file()}


def _registry_and_release() -> tuple[str, str]:
    return VALUES["defaultAirflowRepository"].rpartition("/")[0], VALUES["defaultAirflowTag"]


def test_all_images_are_build_stages_of_one_release() -> None:
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE.read_text(), flags=re.MULTILINE)
    registry, tag = _registry_and_release()
    executor = VALUES["config"]["kubernetes_executor"]
    images = load_kustomization()["images"]
    named = [
        VALUES["defaultAirflowRepository"],
        executor["worker_container_repository"],
        *(image["newName"] for image in images),
    ]

    assert {executor["worker_container_tag"], *(image["newTag"] for image in images)} == {tag}
    for name in named:
        assert name.rpartition("/")[0] == registry
        assert name.rpartition("/")[2] in stages
    replaced = {image["name"] for image in images}
    assert {pod.container["image"] for name, pod in PODS.items() if name not in TASKS} == replaced
    assert VALUES["airflowVersion"] in _pinned("apache-airflow")


def _pinned(package: str) -> str:
    (found,) = re.findall(rf"^{package}==(\S+)$", (REPOSITORY / "constraints.txt").read_text(), re.MULTILINE)
    return str(found)


def _airflow_options() -> set[tuple[str, str]]:
    import airflow.configuration
    from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info

    folder = Path(airflow.configuration.__file__).parent / "config_templates"
    description = yaml.safe_load((folder / "config.yml").read_text()) | get_provider_info()["config"]
    return {(section, option) for section, about in description.items() for option in about["options"]}


def test_every_airflow_option_is_one_of_the_pinned_airflow() -> None:
    named = {(section, option) for section, options in VALUES["config"].items() for option in options}

    assert len(named) > 10
    assert named <= _airflow_options()


@pytest.mark.parametrize("pod", sorted(PODS))
def test_every_recsys_variable_is_a_setting_with_a_possible_value(
    pod: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secrets = create_secrets(tmp_path, _passwords(), host="postgres")
    variables = PODS[pod].plain_variables
    variables |= {name: secrets[s][key] for name, (s, key) in PODS[pod].secret_variables.items()}
    if pod in TASKS:
        variables |= load_settings_file()
    for name in [name for name in os.environ if name.startswith("RECSYS_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    settings = load_settings(tmp_path)

    assert caplog.messages == []  # load_settings warns of names that are no settings
    given = {name.removeprefix("RECSYS_").lower() for name in variables if name.startswith("RECSYS_")}
    for name in given:
        assert name.split("__")[0] in Settings.model_fields, name
    if pod in TASKS:
        settings.require_warehouse_url()
        settings.require_tracking_uri()
        settings.require_pseudonym_key()
        assert settings.mlflow_password is not None
    if pod == "serving":
        assert settings.serving.api_keys


def test_settings_of_airflows_components_are_settings() -> None:
    for name in load_settings_file():
        assert name.removeprefix("RECSYS_").lower() in Settings.model_fields, name
    assert {entry["name"] for entry in VALUES["apiServer"]["env"]} == {"RECSYS_WAREHOUSE_URL"}


def test_mlflow_is_started_as_in_compose() -> None:
    compose = load_compose_file()["services"]["mlflow"]
    ours = PODS["mlflow"]

    assert ours.container["args"] == compose["command"]
    assert {*ours.plain_variables, *ours.secret_variables} - {"HOME"} == set(compose["environment"])
    for name, value in ours.plain_variables.items():
        default = f"${{{name}:-{value}}}"
        assert name == "HOME" or compose["environment"][name] in {value, default}, name


@pytest.mark.parametrize("pod", ["migrate", "serving"])
def test_every_recsys_command_exists(pod: str) -> None:
    from recsys.commands.main import app

    program, command, *options = PODS[pod].container["args"]
    known: Any = typer.main.get_command(app)

    assert program == "recsys"
    known.commands[command].make_context(command, options)  # raises for an unknown option


def _airflow_commands() -> list[list[str]]:
    found = [
        VALUES[component]["livenessProbe"]["command"]
        for component in ("scheduler", "dagProcessor", "triggerer")
    ]
    found.append(VALUES["scheduler"]["startupProbe"]["command"])
    for arguments in (VALUES["migrateDatabaseJob"]["args"], VALUES["apiServer"]["args"]):
        assert arguments[:2] == ["bash", "-c"]
        subprocess.run(["bash", "-n", "-c", arguments[2]], check=True)
        parts = [shlex.split(part) for part in arguments[2].split("&&")]
        found += [part[part.index("airflow") :] for part in parts if "airflow" in part]
    return found


def test_pinned_airflow_knows_every_airflow_command() -> None:
    from airflow.cli.cli_parser import get_parser

    parser = get_parser()
    commands = _airflow_commands()
    assert len(commands) == 7
    for words in commands:
        parser.parse_args(words[1:])  # raises SystemExit for an unknown command


def test_chart_creates_the_same_pools_as_compose() -> None:
    lines = (REPOSITORY / "docker" / "initialise.sh").read_text().splitlines()
    compose = [shlex.split(line) for line in lines if line.startswith("airflow pools")]

    assert [words for words in _airflow_commands() if words[1] == "pools"] == compose


def test_chart_calls_no_script_that_only_airflows_own_image_has() -> None:
    # The defaults of the chart call /entrypoint and /clean-logs.
    for component in ("scheduler", "dagProcessor", "triggerer"):
        assert VALUES[component]["logGroomerSidecar"] == {"enabled": False}
        assert VALUES[component]["livenessProbe"]["command"][0] == "airflow"
    assert VALUES["createUserJob"] == {"enabled": False}


@pytest.fixture(scope="module")
def dags() -> list[Any]:
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(REPOSITORY / "dags")
    assert not bag.import_errors
    return list(bag.dags.values())


def test_every_queue_of_the_dags_has_a_pod_template_that_the_executor_finds(dags: list[Any]) -> None:
    from airflow.configuration import conf

    (mounted,) = VALUES["scheduler"]["extraVolumeMounts"]
    files = {f"{mounted['mountPath']}/{queue}.yaml": queue for queue in load_pod_templates()}
    standard = conf.get("operators", "default_queue")
    tasks = [task for dag in dags for task in dag.tasks]

    for task in tasks:
        file = task.executor_config.get(
            "pod_template_file", VALUES["config"]["kubernetes_executor"]["pod_template_file"]
        )
        queue = VALUES["config"]["operators"]["default_queue"] if task.queue == standard else task.queue
        assert files[file] == queue, task.task_id
    assert {task.queue for task in tasks} == {standard, "gpu"}
    assert {*load_pod_templates()} == {"default", "gpu"}
    (volume,) = VALUES["scheduler"]["extraVolumes"]
    (generated,) = [g for g in load_kustomization()["configMapGenerator"] if g["name"] == "pod-templates"]
    assert volume["configMap"]["name"] == generated["name"]
    assert {Path(name).name for name in generated["files"]} == {Path(file).name for file in files}


def test_deadlines_do_not_need_the_executor(dags: list[Any]) -> None:
    """KubernetesExecutor raises when it is asked to run a callback, which ends the scheduler."""
    from airflow.sdk import AsyncCallback

    for dag in dags:
        (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
        assert isinstance(alert.callback, AsyncCallback), dag.dag_id


def _made_pod(queue: str, task: str) -> Manifest:
    """Return the pod that the executor makes from a template."""
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    executor = VALUES["config"]["kubernetes_executor"]
    template = FOLDER / "pod-templates" / f"{queue}.yaml"
    pod = PodGenerator.construct_pod(
        dag_id="nightly_training",
        task_id=task,
        pod_id=f"nightly-training-{task.replace('_', '-')}",
        try_number=1,
        kube_image=f"{executor['worker_container_repository']}:{executor['worker_container_tag']}",
        date=None,
        args=["python", "-m", "airflow.sdk.execution_time.execute_workload", "--json-string", "{}"],
        pod_override_object=None,
        base_worker_pod=PodGenerator.deserialize_model_file(str(template)),
        namespace=NAMESPACE,
        scheduler_job_id="1",
    )
    return dict(PodGenerator.serialize_pod(pod))


@pytest.mark.parametrize("queue", sorted(load_pod_templates()))
def test_the_executor_makes_a_valid_pod_from_each_template(queue: str) -> None:
    executor = VALUES["config"]["kubernetes_executor"]
    image = f"{executor['worker_container_repository']}:{executor['worker_container_tag']}"
    made = _made_pod(queue, "fine_tune")

    _validate(made, VERSIONS[-1])
    (container,) = made["spec"]["containers"]
    assert (container["image"], container["args"][0]) == (image, "python")
    # Nothing of the template is lost.
    ours = PODS[f"task-{queue}"]
    names = [entry["name"] for entry in container["env"]]
    assert names == [entry["name"] for entry in ours.container["env"]] + ["AIRFLOW_IS_K8S_EXECUTOR_POD"]
    assert made["spec"]["volumes"] == ours.spec["volumes"]
    assert made["spec"]["automountServiceAccountToken"] is False
    assert made["metadata"]["labels"].items() >= ours.labels.items()


def test_the_gpu_template_is_the_default_one_with_a_gpu() -> None:
    default, gpu = PODS["task-default"], PODS["task-gpu"]

    assert gpu.labels == default.labels
    assert gpu.secret_variables == default.secret_variables
    assert set(gpu.spec) - set(default.spec) == {"tolerations"}
    for part in set(default.spec) - {"containers", "volumes"}:
        assert gpu.spec[part] == default.spec[part], part
    gpus = gpu.container["resources"]["limits"]["nvidia.com/gpu"]
    assert gpu.plain_variables == default.plain_variables | {
        "RECSYS_TRAINING__DEVICE": "cuda",
        "RECSYS_TRAINING__DEVICES": str(gpus),
        "NVIDIA_DRIVER_CAPABILITIES": dockerfile_environment()["NVIDIA_DRIVER_CAPABILITIES"],
    }
    (mount,) = [m for m in gpu.container["volumeMounts"] if m not in default.container["volumeMounts"]]
    (volume,) = [v for v in gpu.spec["volumes"] if v not in default.spec["volumes"]]
    assert (mount["mountPath"], volume["emptyDir"]["medium"]) == ("/dev/shm", "Memory")
    assert mount["name"] == volume["name"]


# Secrets


def _passwords() -> dict[str, str]:
    lines = (REPOSITORY / ".env.example").read_text().splitlines()
    names = [line.partition("=")[0] for line in lines if "=" in line and not line.startswith("#")]
    return {
        name: f"secret-{number:03}-{name.lower()}"
        for number, name in enumerate(names)
        if re.search("PASSWORD|SECRET|KEY", name)
    }


# The superuser's is for creating the databases; tasks need no broker.
UNUSED_PASSWORDS = {"POSTGRES_PASSWORD", "REDIS_PASSWORD"}


def _readers() -> dict[str, set[tuple[str, str]]]:
    """Return the secrets and keys that each pod reads."""
    found = {name: set(pod.secret_variables.values()) for name, pod in PODS.items()}
    return found | {"airflow": set(chart_secrets())}


def test_every_secret_is_created_and_read(tmp_path: Path) -> None:
    created = create_secrets(tmp_path, _passwords(), host="postgres")

    available = {(secret, key) for secret, keys in created.items() for key in keys}
    assert available == {reference for references in _readers().values() for reference in references}


def test_secrets_are_on_no_command_line(tmp_path: Path) -> None:
    create_secrets(tmp_path, _passwords(), host="postgres")

    assert "secret-0" not in (tmp_path / "commands").read_text()


@pytest.mark.parametrize("missing", sorted(_passwords().keys() - UNUSED_PASSWORDS))
def test_no_secret_is_created_if_a_password_is_missing(missing: str, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as failed:
        create_secrets(tmp_path, {**_passwords(), missing: ""}, host="postgres")

    assert f"set {missing} " in failed.value.stderr
    assert list((tmp_path / "secrets").iterdir()) == []


def test_the_alert_webhook_reaches_components_and_tasks_if_there_is_one(tmp_path: Path) -> None:
    created = create_secrets(tmp_path, _passwords() | {"RECSYS_ALERT_WEBHOOK": "https://chat"}, host="p")

    assert created["alerts"] == {"RECSYS_ALERT_WEBHOOK": "https://chat"}
    everywhere = yaml.safe_load(VALUES["extraEnvFrom"])
    assert {"secretRef": {"name": "alerts", "optional": True}} in everywhere
    for name in TASKS:
        assert PODS[name].container["envFrom"] == everywhere


def test_every_pod_knows_only_the_secrets_that_it_needs() -> None:
    readers: dict[str, set[str]] = {}
    for pod, references in _readers().items():
        for secret, _ in references:
            readers.setdefault(secret, set()).add(pod)

    assert readers == {
        "airflow-keys": {"airflow"},
        "airflow-login": {"airflow"},
        "airflow-metadata": {"airflow"},
        "mlflow-login": {"mlflow", *TASKS},
        "mlflow-server": {"mlflow"},
        "pseudonym-key": set(TASKS),
        "serving-keys": {"serving"},
        "warehouse-owner": {"migrate"},
        "warehouse-page": {"airflow"},
        "warehouse-pipeline": set(TASKS),
        "warehouse-serving": {"serving"},
    }


def test_no_file_contains_a_secret() -> None:
    secret = re.compile(r"PASSWORD|SECRET|_KEY|_URL$|_URI$|WEBHOOK")
    public = {"RECSYS_MLFLOW_TRACKING_URI", "MLFLOW_FLASK_SERVER_SECRET_KEY"}
    for pod in PODS.values():
        for name in pod.plain_variables:
            assert not secret.search(name), name
    for name in load_settings_file():
        assert name in public or not secret.search(name), name
    assert all(manifest["kind"] != "Secret" for manifest in load_manifests())


# Rights of the pods


@pytest.mark.parametrize("pod", sorted(PODS))
def test_every_pod_follows_the_restricted_standard_and_writes_only_to_its_volumes(pod: str) -> None:
    spec, container = PODS[pod].spec, PODS[pod].container
    context = spec["securityContext"]

    assert context["runAsNonRoot"] is True
    assert f"useradd --system --uid {context['runAsUser']} " in DOCKERFILE.read_text()
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {v["name"] for v in spec["volumes"]}
    assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}


def test_airflows_components_follow_the_restricted_standard() -> None:
    task = PODS["task-default"]
    (namespace,) = [m for m in load_manifests() if m["kind"] == "Namespace"]

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert VALUES["securityContexts"]["pod"] == task.spec["securityContext"]
    assert VALUES["securityContexts"]["containers"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert VALUES["uid"] == task.spec["securityContext"]["runAsUser"]
    assert VALUES["gid"] == task.spec["securityContext"]["fsGroup"]


def test_every_volume_exists() -> None:
    claims = {m["metadata"]["name"] for m in load_manifests() if m["kind"] == "PersistentVolumeClaim"}
    config_maps = {generated["name"] for generated in load_kustomization()["configMapGenerator"]}
    volumes = [volume for pod in PODS.values() for volume in pod.spec["volumes"]]
    volumes += VALUES["apiServer"]["extraVolumes"] + VALUES["scheduler"]["extraVolumes"]

    used = {v["persistentVolumeClaim"]["claimName"] for v in volumes if "persistentVolumeClaim" in v}
    used.add(VALUES["logs"]["persistence"]["existingClaim"])
    assert used == claims
    mounted = {v["configMap"]["name"] for v in volumes if "configMap" in v}
    assert mounted <= config_maps | CHART_CONFIG_MAPS
    read = [source for pod in PODS.values() for source in pod.container.get("envFrom", [])]
    assert {s["configMapRef"]["name"] for s in read if "configMapRef" in s} <= config_maps


# Addresses and who may reach them


def _services() -> dict[str, Manifest]:
    return {m["metadata"]["name"]: m["spec"] for m in load_manifests() if m["kind"] == "Service"}


@pytest.mark.parametrize("name", sorted(_services().keys() - {"training"}))
def test_every_service_leads_to_a_pod_that_is_ready(name: str) -> None:
    service = _services()[name]
    (pod,) = [pod for pod in PODS.values() if service["selector"].items() <= pod.labels.items()]
    (port,) = service["ports"]
    (container_port,) = pod.container["ports"]

    assert port["targetPort"] == container_port["name"]
    assert pod.container["readinessProbe"]["httpGet"] == {"path": "/health", "port": container_port["name"]}
    assert re.search(rf"--port[ =]{container_port['containerPort']}\b", " ".join(pod.container["args"]))


def test_the_pods_of_a_fine_tune_meet_at_the_first_and_let_each_other_in() -> None:
    service = _services()["training"]
    first, other, default = (
        _made_pod(queue, task)["metadata"]["labels"]
        for queue, task in [("gpu", "fine_tune"), ("gpu", "assist_fine_tune"), ("default", "evaluate")]
    )
    assert service["selector"].items() <= first.items()
    assert not service["selector"].items() <= other.items()
    # A headless service has the address of its pod, by which torchrun recognizes its own machine.
    assert (service["clusterIP"], service["publishNotReadyAddresses"]) == ("None", True)
    (port,) = service["ports"]
    (policy,) = [
        m["spec"]
        for m in load_manifests()
        if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "training"
    ]
    assert _selects(policy["podSelector"], first)
    assert not _selects(policy["podSelector"], default | {"dag_id": "hourly_micro_update"})
    for rule in (*policy["ingress"], *policy["egress"]):
        (peer,) = rule["from"] if "from" in rule else rule["to"]
        assert _selects(peer["podSelector"], other)
        (ports,) = rule["ports"]
        assert ports["port"] <= port["port"] <= ports["endPort"]
    named = (FOLDER / "training.yaml").read_text().partition("RECSYS_TRAINING__RENDEZVOUS=")[2].split()[0]
    assert named == f"training:{port['port']}"
    assert TrainingSettings(machines=2, rendezvous=named).rendezvous == named


def test_health_of_the_http_service_needs_no_key() -> None:
    from recsys.serving.http.guard import OPEN_PATHS

    assert PODS["serving"].container["readinessProbe"]["httpGet"]["path"] in OPEN_PATHS


def test_tasks_find_mlflow_and_the_api_server() -> None:
    host, port = load_settings_file()["RECSYS_MLFLOW_TRACKING_URI"].removeprefix("http://").split(":")
    (offered,) = _services()[host]["ports"]
    assert offered["port"] == int(port)
    (allowed,) = [word for word in PODS["mlflow"].container["args"] if word.startswith("--allowed-hosts=")]
    assert f"{host}:{port}" in allowed.partition("=")[2].split(",")
    server = VALUES["config"]["core"]["execution_api_server_url"].removeprefix("http://").split("/")[0]
    host, port = server.split(":")
    assert CHART_SERVICES[host] == int(port)


COMPONENTS = {
    **{name: pod.labels for name, pod in PODS.items()},
    **{
        name: {"tier": "airflow", "component": name, **VALUES["labels"]}
        for name in ("api-server", "scheduler", "dag-processor", "triggerer", "run-airflow-migrations")
    },
    "postgres": {"app": "postgres"},
    "stranger": {},
}


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels"}
    return bool(selector.get("matchLabels", {}).items() <= labels.items())


def _allows(rules: list[dict[str, Any]], side: str, peer: dict[str, str], port: int) -> bool:
    """Whether one of a policy's rules allows a pod of the namespace as peer."""
    for rule in rules:
        peers = rule.get(side)
        named = peers is None or any("podSelector" in p and _selects(p["podSelector"], peer) for p in peers)
        if named and port in {entry["port"] for entry in rule["ports"]}:
            return True
    return False


def _may_connect(source: str, target: str, port: int) -> bool:
    """Whether the policies let one pod of the namespace connect to another."""
    policies = [m["spec"] for m in load_manifests() if m["kind"] == "NetworkPolicy"]
    leaves = enters = False
    for policy in policies:
        if _selects(policy["podSelector"], COMPONENTS[source]):
            leaves |= _allows(policy.get("egress", []), "to", COMPONENTS[target], port)
        if _selects(policy["podSelector"], COMPONENTS[target]):
            enters |= _allows(policy.get("ingress", []), "from", COMPONENTS[source], port)
    return leaves and enters


@pytest.mark.parametrize(
    ("target", "port", "sources"),
    [
        ("mlflow", 5000, {*TASKS}),
        ("serving", 8765, set()),
        (
            "api-server",
            8080,
            {*TASKS, "api-server", "scheduler", "dag-processor", "triggerer", "run-airflow-migrations"},
        ),
        ("postgres", 5432, set(COMPONENTS) - {"postgres", "stranger"}),
        ("migrate", 22, set()),
    ],
)
def test_only_those_who_need_a_service_reach_it(target: str, port: int, sources: set[str]) -> None:
    assert {source for source in COMPONENTS if _may_connect(source, target, port)} == sources


def test_everything_is_denied_unless_a_policy_allows_it() -> None:
    (first, *_) = [m["spec"] for m in load_manifests() if m["kind"] == "NetworkPolicy"]

    assert first == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def test_applications_reach_the_http_service_from_namespaces_with_the_label() -> None:
    (policy,) = [
        m["spec"]
        for m in load_manifests()
        if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "serving"
    ]
    (rule,) = policy["ingress"]

    assert rule["from"] == [{"namespaceSelector": {"matchLabels": {"recsys-client": "true"}}}]
