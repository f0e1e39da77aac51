"""Loopback ports: the usual one when it is free, else another one."""

import socket

import psutil

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        # As servers do: a connection that was closed a moment ago does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """Return a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def choose_port(remembered: int | None, usual: int) -> int:
    """Return the port used last time or the usual one when free, else one close to it, else any."""
    candidates: list[int] = [] if remembered is None else [remembered]
    candidates += range(usual, usual + 10)
    for port in candidates:
        if is_free(port):
            return port
    return any_free_port()


def holder_of(port: int) -> str:
    """Say who listens on a port, as far as we may know."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            address: tuple[str, int] | tuple[()] = connection.laddr
            if connection.status == psutil.CONN_LISTEN and port in address and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {connection.pid}, user {process.username()})"
    except psutil.Error:
        pass
    return "another program"
