"""The process between the chain and one of its servers: it sees to it that nothing is left behind.

Run as a script: `keeper.py STOP_SIGNAL USER COMMAND…`, standard input being a pipe from the parent.

  - the pipe closes (the parent died, by whatever, or wants the server killed): every descendant of
    this process gets SIGKILL, also those that left the process group or were forked twice;
  - a byte arrives: the server gets STOP_SIGNAL, for an orderly stop;
  - the server ends: what it left behind is killed, and this process ends with the server's code;
  - this process is killed itself: the kernel kills the server (PR_SET_PDEATHSIG).

It imports nothing of cdc_sink, because it is started without site-packages. Linux only.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def descendants(root: int) -> list[int]:
    """Return the ids of all processes below `root`, the nearest first; zombies included."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended while we looked
            # The second field is the program's name in brackets and may hold blanks.
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parents[int(entry.name)] = int(fields[1])
    found = [root]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


def main(stop_signal: int, user: str, command: list[str]) -> int:
    """Run the command until it ends or must end; return its exit code, 128 + n after signal n."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    keeper = os.getpid()
    server = os.fork()
    if server == 0:
        try:
            _become(user)
            prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # a change of user would clear it
            if os.getppid() == keeper:
                signal.signal(signal.SIGPIPE, signal.SIG_DFL)
                os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(127)
    for asked in (signal.SIGTERM, signal.SIGINT):
        signal.signal(asked, lambda *_: _send(server, stop_signal))
    _watch(server, stop_signal)
    return _end(server)


def _become(user: str) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(3, 256)  # the lock of the work folder is the keeper's to hold
    if user:
        account = pwd.getpwnam(user)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)


def _watch(server: int, stop_signal: int) -> None:
    ended = os.pidfd_open(server)
    while True:
        ready, _, _ = select.select([0, ended], [], [])
        if ended in ready or not os.read(0, 1):
            return
        _send(server, stop_signal)


def _end(server: int) -> int:
    """Kill and reap until this process has no child; return the exit code of the server."""
    code = 0
    while True:
        for pid in descendants(os.getpid()):
            _send(pid, signal.SIGKILL)
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == server:
            code = os.waitstatus_to_exitcode(status)
            code = 128 - code if code < 0 else code


def _send(pid: int, what: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, what)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
