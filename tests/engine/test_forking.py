"""Children that are forks: what they keep, how they end, and what their parent is told of it.

Each in an interpreter of its own: that of the tests has threads.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from textwrap import dedent

import pytest

from tests.support.commands import ROOT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="children are forked on Linux alone")

BEGIN = """
    import os, signal, subprocess, sys, threading, time
    from btfast.engine.forking import can_fork, fork

    reader, writer = os.pipe()
    def said():
        os.close(writer)
        return open(reader).read()
"""


def answers(program: str) -> list[str]:
    """What it prints, in words."""
    text = dedent(BEGIN) + dedent(program)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_child_does_its_work_and_ends_well() -> None:
    work = "child = fork(lambda: os.write(writer, str(os.getpid()).encode()), writer)"
    told = answers(work + "; print(said() == str(child.pid), child.wait(), child.poll(), child.wait(1))")
    assert told == ["True", "0", "0", "0"]


def test_a_child_holds_what_was_kept_and_nothing_else() -> None:
    told = answers("""
        others = [os.open(os.devnull, os.O_RDONLY) for _ in range(3)]
        def live():
            for fd in range(256):
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                name = os.readlink(f'/proc/self/fd/{fd}').split(':')[0]
                os.write(writer, f' {"kept" if fd == writer else fd}={name}'.encode())
        child = fork(live, writer, errors=writer)
        print(said(), child.wait())
    """)
    assert told == ["0=/dev/null", "1=/dev/null", "2=pipe", "kept=pipe", "0"]


def test_an_exception_is_told_and_ends_the_child() -> None:
    told = answers("""
        def live():
            raise ValueError('nothing')
        child = fork(live, errors=writer)
        text = said().splitlines()
        print(text[0].split()[0], text[-1], child.wait())
    """)
    assert told == ["Traceback", "ValueError:", "nothing", "1"]


def test_a_child_is_waited_for_as_long_as_asked_and_ends_when_told() -> None:
    told = answers("""
        child = fork(lambda: time.sleep(600))
        try:
            child.wait(0.01)
        except subprocess.TimeoutExpired:
            print('waits', child.poll())
        child.terminate()
        print(child.wait(60))
        child.kill()  # it is gone: nobody else is hit
        print(child.returncode)
    """)
    assert told == ["waits", "None", str(-signal.SIGTERM), str(-signal.SIGTERM)]


def test_the_end_of_a_child_is_seen_where_the_system_takes_it_away() -> None:
    told = answers("""
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        child = fork(lambda: os.write(writer, b'here'), writer)
        print(said(), child.wait(60), child.poll())
        child.kill()
    """)
    assert told == ["here", "0", "0"]


def test_a_process_with_threads_is_not_forked() -> None:
    told = answers("""
        print(can_fork())
        event = threading.Event()
        threading.Thread(target=event.wait).start()
        print(can_fork())
        event.set()
    """)
    assert told == ["True", "False"]
