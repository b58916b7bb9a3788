"""Drives many libcurl transfers in one thread, with a poll of its own."""

from __future__ import annotations

import select
import socket
import time
from contextlib import suppress

import pycurl

EVENTS_PER_TURN = 256

_WATCH = {
    pycurl.POLL_NONE: 0,
    pycurl.POLL_IN: select.POLLIN,
    pycurl.POLL_OUT: select.POLLOUT,
    pycurl.POLL_INOUT: select.POLLIN | select.POLLOUT,
}


class PolledMulti:
    """A `CurlMulti` whose sockets are watched with epoll, or poll where that is missing.

    All methods but `wake` belong to one thread. pycurl offers no `curl_multi_poll`, and its `select` is bound to
    `FD_SETSIZE`: beyond 1,024 sockets there is only `socket_action`.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll() if hasattr(select, "epoll") else None
        self._poller = self._epoll or select.poll()
        self._watched: set[int] = set()
        self._timer_at: float | None = None
        self._listening, self._waking = socket.socketpair()
        self._listening.setblocking(False)
        self._waking.setblocking(False)
        self._poller.register(self._listening.fileno(), select.POLLIN)
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        self._multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)

    def add(self, handle: pycurl.Curl) -> None:
        """Begin the transfer of `handle` at the next turn."""
        self._multi.add_handle(handle)

    def remove(self, handle: pycurl.Curl) -> None:
        """Take `handle` out, ended or not; its connection is closed."""
        self._multi.remove_handle(handle)

    def wake(self) -> None:
        """End the wait of the turn under way, or else of the next one. Safe from any thread."""
        # A full buffer wakes as well, and a closed one has nobody to wake.
        with suppress(OSError):
            self._waking.send(b"\0")

    def turn(self, longest_s: float | None) -> list[tuple[pycurl.Curl, int]]:
        """Wait up to `longest_s` (None: as long as it takes), move what is ready; return the handles that ended.

        Each comes with its result code, `E_OK` where the transfer is complete. They are still to be removed.
        """
        for descriptor, events in self._wait(longest_s):
            if descriptor == self._listening.fileno():
                self._listening.recv(4_096)
            else:
                self._multi.socket_action(descriptor, _ready(events))
        if self._timer_at is not None and self._timer_at <= time.monotonic():
            self._timer_at = None
            self._multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)
        _left, complete, failed = self._multi.info_read()
        return [(handle, pycurl.E_OK) for handle in complete] + [(handle, code) for handle, code, _text in failed]

    def close(self) -> None:
        """Close every socket. All handles must have been removed."""
        self._multi.close()
        self._listening.close()
        self._waking.close()
        if self._epoll is not None:
            self._epoll.close()

    def _wait(self, longest_s: float | None) -> list[tuple[int, int]]:
        wait = -1.0 if longest_s is None else longest_s
        if self._timer_at is not None:
            until_timer = max(self._timer_at - time.monotonic(), 0.0)
            wait = until_timer if wait < 0 else min(wait, until_timer)
        if self._epoll is not None:
            return self._epoll.poll(wait, EVENTS_PER_TURN)
        return self._poller.poll(wait * 1_000)  # the one counts seconds, the other milliseconds

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        # pycurl prints what is raised here. A socket that cannot be watched costs its call the deadline.
        with suppress(OSError):
            if what == pycurl.POLL_REMOVE:
                self._watched.discard(descriptor)
                self._poller.unregister(descriptor)
            elif descriptor in self._watched:
                self._poller.modify(descriptor, _WATCH[what])
            else:
                self._poller.register(descriptor, _WATCH[what])
                self._watched.add(descriptor)

    def _set_timer(self, in_ms: int) -> None:
        self._timer_at = None if in_ms < 0 else time.monotonic() + in_ms / 1_000


def _ready(events: int) -> int:
    ready = pycurl.CSELECT_IN if events & select.POLLIN else 0
    if events & select.POLLOUT:
        ready |= pycurl.CSELECT_OUT
    if events & ~(select.POLLIN | select.POLLOUT):
        ready |= pycurl.CSELECT_ERR
    return ready
