"""Choose loopback ports: the usual port when it is free, otherwise another one."""

import socket

import psutil

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Return whether a server could listen on a loopback port now."""
    with socket.socket() as probe:
        # Servers set this option too; without it, a connection closed a moment ago would block the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
    return True


def any_free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def choose_port(remembered: int | None, usual: int) -> int:
    """Return the first free port of: the port used last time, the usual one, the nine after it, any."""
    candidates: list[int] = [] if remembered is None else [remembered]
    candidates += range(usual, usual + 10)
    for port in candidates:
        if is_free(port):
            return port
    return any_free_port()


def port_owner(port: int) -> str:
    """Describe the process that listens on a port, as far as we are allowed to see it."""
    try:
        for connection in psutil.net_connections(kind="tcp"):
            address: tuple[str, int] | tuple[()] = connection.laddr
            if connection.status == psutil.CONN_LISTEN and port in address and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {connection.pid}, user {process.username()})"
    except psutil.Error:
        pass
    return "another program"
