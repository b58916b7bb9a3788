"""The dispatcher that speaks HTTP through libcurl, in a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from uuid import UUID

import pycurl

from scheduling.dispatch.curl_faults import explain
from scheduling.dispatch.curl_multi import PolledMulti
from scheduling.dispatch.curl_transfer import Transfer, common_options, system_ca_file
from scheduling.dispatch.failures import (
    CANCELED,
    CRASHED,
    NO_SUCH_NAME,
    OUT_OF_FILES,
    REFUSED,
    Failure,
    deadline_passed,
    unresolved,
)
from scheduling.dispatch.handles import FileHandles
from scheduling.dispatch.lookups import Answer, GetAddrInfo, Lookups, NoAddress
from scheduling.dispatch.resolver import DnsHealth, in_turns
from scheduling.egress.policy import EgressPolicy
from scheduling.exchange.outcome import Call, ErrorKind, Outcome

SPARE_LOOKUPS = 256
CLOSE_TIMEOUT_S = 1.0
_NEVER_NS = 2**63

logger = logging.getLogger(__name__)


class CurlDispatcher:
    """Makes up to `concurrency` calls at a time; further ones wait their turn and their deadline waits with them.

    Names are resolved by threads of ours and handed to libcurl with their addresses: its own resolver is a pool of
    20 threads, which hung names exhaust, and which closing waits for. `ca_file` names certificate authorities (PEM)
    trusted beside those of the system; verification cannot be turned off.
    """

    def __init__(
        self,
        egress: EgressPolicy,
        *,
        concurrency: int,
        ca_file: str | None = None,
        getaddrinfo: GetAddrInfo = socket.getaddrinfo,
    ) -> None:
        self._egress = egress
        trusted, self._own_ca_file = _ca_files(ca_file)
        self._health = DnsHealth()
        self._handles = FileHandles()
        self._lookups = Lookups(concurrency + SPARE_LOOKUPS, getaddrinfo)
        self._ready = threading.Condition()
        self._under_way: set[UUID] = set()
        self._outcomes: list[Outcome] = []
        self._errands: list[Callable[[], None]] = []
        self._closed = False
        # What follows belongs to the thread.
        self._multi = PolledMulti()
        self._taken: deque[Callable[[], None]] = deque()
        self._free = concurrency
        self._waiting: deque[Transfer] = deque()
        self._transfers: dict[UUID, Transfer] = {}
        self._dialled: dict[pycurl.Curl, Transfer] = {}
        self._common = {scheme: common_options(scheme, trusted) for scheme in ("http", "https")}
        self._resolving: dict[UUID, Transfer] = {}
        self._expiry_ns = _NEVER_NS  # no deadline of a call whose name is being resolved passes before
        self._ended: list[Outcome] = []
        self._thread = threading.Thread(target=self._run, name="dispatcher", daemon=True)
        self._thread.start()

    def start(self, call: Call) -> None:
        """Begin the call and return at once; raise ValueError for a run that is under way, RuntimeError once closed."""
        with self._ready:
            if self._closed:
                raise RuntimeError("The dispatcher is closed.")
            if call.run_id in self._under_way:
                raise ValueError(f"Run {call.run_id} is under way.")
            self._under_way.add(call.run_id)
            self._send(partial(self._accept, call))

    def completed(self, timeout: float) -> list[Outcome]:
        """Return the outcomes that are ready, waiting up to `timeout` seconds for the first; empty when none came."""
        with self._ready:
            self._ready.wait_for(lambda: self._outcomes, timeout)
            outcomes, self._outcomes = self._outcomes, []
            self._under_way.difference_update(outcome.call.run_id for outcome in outcomes)
            return outcomes

    def cancel(self, run_id: UUID) -> None:
        """Stop the call of `run_id`, which ends as `canceled`; without effect on one that has ended or is unknown."""
        with self._ready:
            self._send(partial(self._cancel, run_id))

    def in_flight(self) -> int:
        """Return how many calls were started and not yet handed out by `completed`."""
        with self._ready:
            return len(self._under_way)

    def close(self) -> None:
        """Cancel what is under way and free threads and sockets; outcomes can still be fetched. Safe to repeat."""
        with self._ready:
            self._closed = True
            self._multi.wake()
        self._lookups.close()
        self._thread.join(CLOSE_TIMEOUT_S)
        if self._thread.is_alive():
            raise TimeoutError("The dispatcher did not stop.")

    def _send(self, errand: Callable[[], None]) -> None:
        """Have the thread run `errand`; the lock is held."""
        self._errands.append(errand)
        if len(self._errands) == 1:
            self._multi.wake()

    def _run(self) -> None:
        while not self._closed:
            try:
                self._turn()
            except Exception as error:  # noqa: BLE001  the thread outlives whatever happens in it
                logger.error("call_crashed", extra={"error": type(error).__name__})
                self._end_all(CRASHED)
                self._hand_out()
        self._run_errands()
        self._end_all(CANCELED)
        self._hand_out()
        self._multi.close()
        self._handles.close()
        for handle in self._common.values():
            handle.close()
        if self._own_ca_file is not None:
            with suppress(OSError):
                self._own_ca_file.unlink()

    def _turn(self) -> None:
        for handle, code in self._multi.turn(self._longest_wait()):
            self._guard(self._dialled[handle], partial(self._finish, code))
        self._run_errands()
        self._expire_lookups()
        while self._free and self._waiting:
            transfer = self._waiting.popleft()
            if not transfer.ended:
                self._guard(transfer, self._begin)
        self._hand_out()

    def _run_errands(self) -> None:
        with self._ready:
            self._taken += self._errands
            self._errands.clear()
        while self._taken:
            self._taken.popleft()()

    def _longest_wait(self) -> float | None:
        if self._errands or self._taken:
            return 0.0  # left over from a turn that crashed; nobody wakes for them again
        if not self._resolving:
            return None
        return max((self._expiry_ns - time.monotonic_ns()) / 1e9, 0.0)

    def _accept(self, call: Call) -> None:
        transfer = Transfer(call, self._egress)
        self._transfers[call.run_id] = transfer
        self._waiting.append(transfer)

    def _cancel(self, run_id: UUID) -> None:
        transfer = self._transfers.get(run_id)
        if transfer is not None:
            self._end(transfer, CANCELED)

    def _begin(self, transfer: Transfer) -> None:
        self._free -= 1
        if not transfer.begin():
            self._end(transfer, REFUSED)
        elif transfer.target is not None and transfer.target.address is not None:
            self._dial(transfer, ())
        else:
            self._resolving[transfer.recorder.call.run_id] = transfer
            self._expiry_ns = min(self._expiry_ns, transfer.deadline_ns)
            self._lookups.ask(transfer.recorder.host, partial(self._deliver, transfer))

    def _deliver(self, transfer: Transfer, answer: Answer) -> None:
        """Pass on an answer; runs in a thread of the resolver."""
        with self._ready:
            self._send(partial(self._guard, transfer, partial(self._resolved, answer)))

    def _resolved(self, answer: Answer, transfer: Transfer) -> None:
        target, run_id = transfer.target, transfer.recorder.call.run_id
        if self._resolving.get(run_id) is not transfer or target is None:
            return  # ended meanwhile
        del self._resolving[run_id]
        if answer.fault is NoAddress.OUT_OF_HANDLES:
            self._end(transfer, OUT_OF_FILES)
            return
        self._note_lookup(transfer, answered=answer.fault is not NoAddress.NO_ANSWER)
        if answer.fault is NoAddress.NO_ANSWER:
            self._end(transfer, unresolved(self._health.blame()))
        elif answer.fault is NoAddress.NO_SUCH_NAME:
            self._end(transfer, NO_SUCH_NAME)
        elif allowed := transfer.dialable(answer.addresses, target.port):
            self._dial(transfer, in_turns(allowed))
        else:
            self._end(transfer, REFUSED)

    def _note_lookup(self, transfer: Transfer, *, answered: bool) -> None:
        recorder = transfer.recorder
        self._health.record(recorder.call.owner_id, recorder.host, answered=answered, now_ns=time.monotonic_ns())

    def _expire_lookups(self) -> None:
        now_ns = time.monotonic_ns()
        if now_ns < self._expiry_ns:
            return
        for transfer in [late for late in self._resolving.values() if late.deadline_ns <= now_ns]:
            self._note_lookup(transfer, answered=False)
            timeout_ms = transfer.recorder.call.timeout_ms
            self._end(transfer, deadline_passed(transfer.recorder.phase, timeout_ms, self._health.blame()))
        self._expiry_ns = min((transfer.deadline_ns for transfer in self._resolving.values()), default=_NEVER_NS)

    def _dial(self, transfer: Transfer, addresses: tuple[str, ...] | list[str]) -> None:
        assert transfer.target is not None
        handle = self._common[transfer.target.scheme].duphandle()
        self._dialled[handle] = transfer
        transfer.prepare(handle, transfer.target, addresses)
        self._multi.add(handle)

    def _finish(self, code: int, transfer: Transfer) -> None:
        transfer.measure()
        if transfer.error is not None:
            self._log_crash(transfer, transfer.error)
        self._end(transfer, explain(code, transfer, self._health.blame()), measured=True)

    def _guard(self, transfer: Transfer, step: Callable[[Transfer], None]) -> None:
        """Do the next step of a call; one that raises ends the call, and nothing else."""
        try:
            step(transfer)
        except Exception as error:  # noqa: BLE001  whatever a call raises is its own outcome
            self._log_crash(transfer, error)
            self._end(transfer, CRASHED)

    def _end(self, transfer: Transfer, failure: Failure | None, *, measured: bool = False) -> None:
        """Free what the call holds and keep its outcome. Without effect on a call that has ended."""
        if transfer.ended:
            return
        transfer.ended = True
        if failure is not None and self._out_of_files(transfer, failure):
            failure = OUT_OF_FILES
        recorder = transfer.recorder
        del self._transfers[recorder.call.run_id]
        self._resolving.pop(recorder.call.run_id, None)
        if recorder.started_ns:
            self._free += 1
        try:
            if recorder.started_ns and not measured:
                transfer.measure()
            self._hang_up(transfer)
            outcome = recorder.finish(failure)
        except Exception as error:  # noqa: BLE001  what cannot be judged must not cost the outcome
            self._log_crash(transfer, error)
            now_ns = time.monotonic_ns()
            outcome = Outcome.unsent(recorder.call, CRASHED.kind, CRASHED.message, CRASHED.blame, now_ns)
        self._ended.append(outcome)

    def _out_of_files(self, transfer: Transfer, failure: Failure) -> bool:
        """Whether a call that got no answer failed because no socket, look-up or certificate file could be opened."""
        self._handles.note(transfer.error_number)
        if failure in (REFUSED, CANCELED) or transfer.recorder.status_code is not None:
            return False
        unmade = failure.kind in (ErrorKind.DNS_FAILED, ErrorKind.CONNECT_FAILED, ErrorKind.TLS_FAILED)
        return (unmade or failure is CRASHED) and self._handles.exhausted()

    def _hang_up(self, transfer: Transfer) -> None:
        handle = transfer.handle
        if handle is None:
            return
        del self._dialled[handle]
        with suppress(pycurl.error):
            self._multi.remove(handle)
        handle.close()

    def _end_all(self, failure: Failure) -> None:
        for transfer in list(self._transfers.values()):
            self._end(transfer, failure)
        self._waiting.clear()

    def _hand_out(self) -> None:
        if not self._ended:
            return
        with self._ready:
            self._outcomes += self._ended
            self._ready.notify_all()
        self._ended = []

    def _log_crash(self, transfer: Transfer, error: Exception) -> None:
        # The text of the exception may quote a header; its type does not.
        context = {"run_id": str(transfer.recorder.call.run_id), "error": type(error).__name__}
        logger.error("call_crashed", extra=context)


def _ca_files(extra: str | None) -> tuple[str | None, Path | None]:
    """Return the file of trusted authorities, and the same where it is ours to delete: the system's and `extra`."""
    system = system_ca_file()
    if extra is None or system is None:
        return extra or system, None
    descriptor, name = tempfile.mkstemp(prefix="authorities-", suffix=".pem")
    with os.fdopen(descriptor, "wb") as bundle:
        for file in (system, extra):
            bundle.write(Path(file).read_bytes() + b"\n")
    return name, Path(name)
