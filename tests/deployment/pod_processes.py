"""Run a task of a DAG as its pod on Kubernetes would: a process that has what the pod has and nothing else.

The command is the executor's. The environment comes from the pod template, settings.env and the secrets.
The file system is read-only but for the template's volumes. In the place of Airflow's API server is one
that keeps states and XComs, so that no database of Airflow is needed.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from airflow.providers.cncf.kubernetes.pod_generator import workload_to_command_args
from airflow.sdk.api.datamodels._generated import TIRunContext
from pydantic import TypeAdapter

from recsys.resources import resource_folder
from tests.deployment.compose import dockerfile_environment
from tests.deployment.kubernetes import Pod, load_settings_file, load_values

_XCOM = re.compile(r"/execution/xcoms/(?P<place>[^?]+)")
_READ_ONLY = """
for folder in {folders}; do mount --bind "$folder" "$folder"; done
mount -o remount,ro,bind / && exec "$@"
"""


class ExecutionApi:
    """Airflow's execution API for the tasks of one DAG run, in memory."""

    def __init__(self, dag_id: str, run_id: str) -> None:
        self.dag_id, self.run_id = dag_id, run_id
        self.states: dict[str, str] = {}
        self.xcoms: dict[str, Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/execution/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: Any) -> tuple[int, Any]:
        """Return the status and content of an answer."""
        if found := _XCOM.match(path):
            if method == "POST":
                self.xcoms[found["place"]] = body
                return 201, {"message": "set"}
            if found["place"] in self.xcoms:
                key = found["place"].rpartition("/")[2]
                return 200, {"key": key, "value": self.xcoms[found["place"]]}
        elif method == "PATCH" and path.endswith("/run"):
            return 200, self._run_context()
        elif method == "PATCH" and path.endswith("/state"):
            self.states[path.split("/")[-2]] = body["state"]
            return 204, None
        elif method == "PUT":
            return 204, None
        return 404, {"detail": {"reason": "not_found", "message": f"{method} {path}"}}

    def _run_context(self) -> Any:
        now = datetime.now(UTC).isoformat()
        run = {
            "dag_id": self.dag_id,
            "run_id": self.run_id,
            "logical_date": None,
            "data_interval_start": None,
            "data_interval_end": None,
            "run_after": now,
            "start_date": now,
            "end_date": None,
            "run_type": "manual",
            "state": "running",
            "conf": {},
            "consumed_asset_events": [],
            "partition_key": None,
        }
        context = TIRunContext.model_validate({"dag_run": run, "max_tries": 3})
        return context.model_dump(mode="json")

    def _handler(api) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, content = api.answer(self.command, self.path, json.loads(body) if body else None)
                sent = b"" if content is None else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(sent)))
                self.end_headers()
                self.wfile.write(sent)

            do_GET = do_HEAD = do_PATCH = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


class TaskPods:
    """Runs tasks in the pod of a queue. The pods share the claims, which are folders here.

    Parameters
    ----------
    folder
        Holds the claims, and what each pod has to itself.
    secrets
        Values by secret and key.
    """

    def __init__(self, folder: Path, secrets: dict[str, dict[str, str]], api: ExecutionApi) -> None:
        self.folder, self.secrets, self.api = folder, secrets, api

    def run(self, pod: Pod, task_id: str) -> tuple[str, str]:
        """Run a task; return the state that it reported, and what it printed."""
        from airflow.executors import workloads

        identifier = str(uuid.uuid4())
        instance = {
            "id": identifier,
            "dag_version_id": str(uuid.uuid4()),
            "dag_id": self.api.dag_id,
            "run_id": self.api.run_id,
            "task_id": task_id,
            "try_number": 1,
            "map_index": -1,
            "pool_slots": 1,
            "queue": pod.name.removeprefix("task-"),
            "priority_weight": 1,
        }
        workload = TypeAdapter(workloads.ExecuteTask).validate_python(
            {
                "token": "a token",
                "dag_rel_path": f"{self.api.dag_id}.py",
                "bundle_info": {"name": "dags-folder"},
                "log_path": f"{task_id}.log",
                "ti": instance,
            }
        )
        command = [*workload_to_command_args(workload)]
        assert command[0] == "python"
        command[0] = sys.executable
        environment = self._environment(pod)
        done = subprocess.run(
            [*self._read_only_but_for(pod), *command],
            env=environment,
            cwd="/",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=500,
        )
        log = self.place("/opt/airflow/logs") / f"{task_id}.log"
        printed = done.stdout + (log.read_text() if log.exists() else "")
        return self.api.states.get(identifier, f"ended with {done.returncode}"), printed

    def start(self, pod: Pod, command: list[str]) -> subprocess.Popen[bytes]:
        """Start a command with what a pod has; its output is in the file `NAME.log` of the folder."""
        with (self.folder / f"{pod.name}.log").open("wb") as log:
            return subprocess.Popen(
                [*self._read_only_but_for(pod), *command],
                env=self._environment(pod),
                cwd="/",
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def place(self, path: str) -> Path:
        """Return the folder that is at a path in the containers."""
        made = self.folder / path.strip("/")
        made.mkdir(parents=True, exist_ok=True)
        return made

    def _environment(self, pod: Pod) -> dict[str, str]:
        home = self.place("/opt/airflow")
        if not (home / "airflow.cfg").exists():
            self._write_configuration(home / "airflow.cfg")
        # What lies in this checkout stays where it is, even below a folder that a pod mounts, such as /tmp.
        checkout = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": str(self.place("/tmp"))}
        for name in ("dags", "plugins"):
            checkout[f"AIRFLOW__CORE__{name.upper()}_FOLDER"] = str(resource_folder(name))
        secret = {name: self.secrets[s][key] for name, (s, key) in pod.secret_variables.items()}
        settings = load_settings_file() if "envFrom" in pod.container else {}
        container = {**dockerfile_environment(), **settings, **pod.plain_variables, **secret}
        paths = {mount["mountPath"] for mount in pod.container["volumeMounts"]} | {"/opt/airflow"}
        here = {
            name: str(self.place(value))
            if any(value == p or value.startswith(f"{p}/") for p in paths)
            else value
            for name, value in container.items()
        }
        return here | checkout | {"AIRFLOW_IS_K8S_EXECUTOR_POD": "True"}

    def _write_configuration(self, file: Path) -> None:
        """Write what the chart makes of the values, with the address of the API server of this test."""
        config = load_values()["config"]
        config["core"] |= {"execution_api_server_url": self.api.url, "executor": load_values()["executor"]}
        bundle = "airflow.dag_processing.bundles.local.LocalDagBundle"
        bundles = [{"name": "dags-folder", "classpath": bundle, "kwargs": {}}]
        config["dag_processor"] = {"dag_bundle_config_list": json.dumps(bundles)}
        lines = []
        for section, options in config.items():
            lines += [f"[{section}]", *(f"{name} = {value}" for name, value in options.items())]
        file.write_text("\n".join(lines) + "\n")

    def _read_only_but_for(self, pod: Pod) -> list[str]:
        """Return a command that runs another one with nothing writable but the pod's volumes, if it can."""
        mounts = pod.container["volumeMounts"]
        writable = [str(self.place(m["mountPath"])) for m in mounts if not m.get("readOnly")]
        may = os.geteuid() == 0 and shutil.which("unshare") is not None
        if not may or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
            return []
        script = _READ_ONLY.format(folders=" ".join(f"'{folder}'" for folder in writable))
        return ["unshare", "--mount", "sh", "-c", script, "sh"]
