"""Figures of monitoring reach what Airflow sends its own metrics to."""

import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

# As Airflow's task runner starts its metrics.
_TASK = """
from airflow.sdk.observability import stats
from airflow.sdk.observability.metrics import stats_utils
from opentelemetry import metrics
stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)
from recsys.airflow.tasks import export
export({"response_share.home": 0.25, "response_share.a page/1 \u00e9": 0.5})
metrics.get_meter_provider().force_flush()
"""


def test_gauges_reach_an_opentelemetry_collector(tmp_path: Path) -> None:
    received: list[bytes] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        Thread(target=collector.serve_forever, daemon=True).start()
        environment = os.environ | {
            "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__METRICS__OTEL_ON": "True",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        subprocess.run([sys.executable, "-c", _TASK], env=environment, check=True, capture_output=True)
        collector.shutdown()
    sent = b"".join(received)
    assert b"recsys.response_share.home" in sent
    assert b"recsys.response_share.a_page_1__" in sent
