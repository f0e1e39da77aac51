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


_claims: dict[int, socket.socket] = {}


def claim(port: int) -> bool:
    """Take a free port for this process; return False if it is in use or another process has claimed it.

    A server listens many seconds after its stack has chosen the port. Until then a UDP socket of the same
    number, which nobody reads, tells other stacks that the port is taken. It closes when the process ends.
    """
    if not is_free(port):
        return False
    if port in _claims:
        return True
    mark = socket.socket(type=socket.SOCK_DGRAM)
    try:
        mark.bind((LOOPBACK, port))
    except OSError:
        mark.close()
        return False
    _claims[port] = mark
    return True


def any_free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def choose_port(remembered: int | None, usual: int) -> int:
    """Claim the first free port of: the port used last time, the usual one, the nine after it, any."""
    candidates: list[int] = [] if remembered is None else [remembered]
    candidates += range(usual, usual + 10)
    for port in candidates:
        if claim(port):
            return port
    while not claim(port := any_free_port()):
        pass
    return port


def port_owner(port: int) -> str:
    """Describe the process that listens on a port or has claimed it, as far as we are allowed to see it."""
    try:
        for connection in psutil.net_connections(kind="inet"):
            address: tuple[str, int] | tuple[()] = connection.laddr
            takes = connection.status == psutil.CONN_LISTEN or connection.type == socket.SOCK_DGRAM
            if takes and port in address and connection.pid:
                process = psutil.Process(connection.pid)
                return f"{process.name()} (process {connection.pid}, user {process.username()})"
    except psutil.Error:
        pass
    return "another program"
