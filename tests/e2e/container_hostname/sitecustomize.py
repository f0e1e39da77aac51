"""Gives each process the host name that HOSTNAME says, as a container has one of its own.

Python imports this at start-up when its folder is on PYTHONPATH. Celery names its workers after the host,
and Airflow notes the host that ran a task; all services of the test run on one.
"""

import os
import socket

if "HOSTNAME" in os.environ:
    socket.gethostname = lambda: os.environ["HOSTNAME"]
