"""Runs `manage.py run_scheduler` and tells where its CPU went: by thread, and by function within each.

    .venv/bin/python -m bench.profiled FILE [options of run_scheduler]

Stacks are sampled every 2 ms; a sample weighs what its thread has computed since the last one, by the thread's own
clock, so that waiting costs nothing. A function's own time holds that of the C code it calls.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from types import FrameType

import django
from django.core.management import call_command

EVERY_S = 0.002
SHOWN = 25


class Sampler:
    """Samples all threads but its own, from `start` until `stop`."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._own: dict[str, Counter[str]] = defaultdict(Counter)
        self._within: dict[str, Counter[str]] = defaultdict(Counter)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> str:
        """Ends the sampling; returns the report."""
        self._done.set()
        self._thread.join()
        total = sum(sum(counter.values()) for counter in self._own.values())
        lines = [f"{total:.2f} s of CPU"]
        for name, counter in sorted(self._own.items(), key=lambda item: -sum(item[1].values())):
            spent = sum(counter.values())
            lines.append(f"\n{name}: {spent / total:.1%}")
            for kind, counts in (("own   ", counter), ("within", self._within[name])):
                lines += [f"  {kind} {value / total:6.1%} {where}" for where, value in counts.most_common(SHOWN)]
        return "\n".join(lines) + "\n"

    def _run(self) -> None:
        clocks: dict[int, float] = {}
        while not self._done.wait(EVERY_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                if thread is self._thread or thread.ident is None or thread.ident not in frames:
                    continue
                try:
                    now = time.clock_gettime(time.pthread_getcpuclockid(thread.ident))
                except OSError:
                    continue
                spent = now - clocks.get(thread.ident, now)
                clocks[thread.ident] = now
                if spent > 0:
                    self._count(thread.name, frames[thread.ident], spent)

    def _count(self, thread: str, frame: FrameType | None, spent: float) -> None:
        assert frame is not None
        self._own[thread][_where(frame)] += spent
        met = set()
        while frame is not None:
            met.add(_where(frame))
            frame = frame.f_back
        for where in met:
            self._within[thread][where] += spent


def _where(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{path.parent.name}/{path.name}:{frame.f_code.co_qualname}"


def main() -> None:
    file, *arguments = sys.argv[1:]
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cronicorn.settings")
    django.setup()
    sampler = Sampler()
    call_command("run_scheduler", *arguments)
    Path(file).write_text(sampler.stop(), encoding="utf-8")


if __name__ == "__main__":
    main()
