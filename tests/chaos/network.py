"""Hosts that can vanish: each is a network namespace with a relay to the test's PostgreSQL, behind a virtual cable.

A proxy in our own namespace cannot show this fault: its kernel acknowledges what it does not pass on.
"""

import ipaddress
import itertools
import os
import shutil
import subprocess
import sys
from types import TracebackType
from typing import Self

_NUMBERS = itertools.count(os.getpid() % 4000 * 4)
# Runs in the namespace. Its kernel notices a client that vanished as PostgreSQL's does with the limits of our sessions.
_RELAY = """
import select, socket, sys, threading
sys.stdin.readline()
listener = socket.create_server((sys.argv[1], 5432), backlog=64)
print("ready", flush=True)
def relay(client):
    for option, value in ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 5), (18, 10000)):
        client.setsockopt(socket.IPPROTO_TCP, option, value)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    server = socket.socket(socket.AF_UNIX)
    with client, server:
        try:
            server.connect(sys.argv[2])
            while True:
                for end in select.select([client, server], [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    (server if end is client else client).sendall(data)
        except OSError:
            return
while True:
    threading.Thread(target=relay, args=(listener.accept()[0],), daemon=True).start()
"""


def unavailable() -> str | None:
    """Why hosts cannot be made here; None where they can."""
    if os.geteuid() != 0 or not all(shutil.which(program) for program in ("ip", "unshare", "nsenter")):
        return "network namespaces need root, ip, unshare and nsenter"
    tried = subprocess.run(["unshare", "--net", "ip", "link", "add", "cra0", "type", "veth"], capture_output=True)
    return None if tried.returncode == 0 else "network namespaces cannot be made here"


class Host:
    """A host at `address` that speaks for the server behind `socket_path`; begins unplugged unless `up`."""

    def __init__(self, socket_path: str, *, up: bool = True) -> None:
        number = next(_NUMBERS)
        network = ipaddress.ip_address("10.213.0.0") + number * 4
        self._ours, self.address = str(network + 1), str(network + 2)
        self._outer, self._inner = f"cro{number}", f"cri{number}"
        self._socket_path = socket_path
        self._up = up

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-c", _RELAY, self.address, self._socket_path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._plug_in()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _plug_in(self) -> None:
        pid = str(self._process.pid)
        _until_apart(self._process.pid)
        _run("ip", "link", "add", self._outer, "type", "veth", "peer", "name", self._inner, "netns", pid)
        _run("ip", "addr", "add", f"{self._ours}/30", "dev", self._outer)
        _run("ip", "link", "set", self._outer, "up")
        self._inside("ip", "link", "set", "lo", "up")
        self._inside("ip", "addr", "add", f"{self.address}/30", "dev", self._inner)
        self._inside("ip", "link", "set", self._inner, "up")
        # Known for good: otherwise a missing answer to ARP would say soon that the host is away.
        found = self._inside("ip", "-o", "link", "show", self._inner).partition("link/ether ")[2].split()[0]
        _run("ip", "neigh", "replace", self.address, "lladdr", found, "dev", self._outer, "nud", "permanent")
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == "ready\n"
        if not self._up:
            self.vanish()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait(10)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        subprocess.run(["ip", "link", "del", self._outer], capture_output=True)

    def vanish(self) -> None:
        """From now on every packet to and from the host is lost, without a word."""
        self._inside("ip", "link", "set", self._inner, "down")

    def come_back(self) -> None:
        """Ends that."""
        self._inside("ip", "link", "set", self._inner, "up")

    def _inside(self, *command: str) -> str:
        return _run("nsenter", "--target", str(self._process.pid), "--net", *command)


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def _until_apart(pid: int) -> None:
    """Waits until the process is in a namespace of its own."""
    from tests.support.processes import eventually

    ours = os.readlink("/proc/self/ns/net")
    eventually(lambda: os.readlink(f"/proc/{pid}/ns/net") != ours, 10)
