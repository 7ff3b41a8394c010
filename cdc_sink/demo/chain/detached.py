"""A chain that runs until somebody stops it: in the foreground, or detached as its own process.

python -m cdc_sink.demo.chain.detached WORKDIR PART…
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from cdc_sink.demo.chain.chain import START_LIMIT_S, Chain
from cdc_sink.demo.chain.hosting.workdir import ChainState, is_in_use, read_state
from cdc_sink.errors import CdcSinkError, ConfigError, UnavailableError

STOP_LIMIT_S = 90.0
_LOG = "chain.log"
_POLL_S = 0.2  # the other process says what it does in a file and a lock
_WATCH_S = 1.0  # any part may end, and each is asked


def serve(workdir: Path, parts: Sequence[str]) -> None:
    """Run the chain until Ctrl-C or SIGTERM, then stop it in order.

    Raises: what Chain.start raises; UnavailableError when a part ends by itself.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with Chain(workdir, parts=parts) as chain:
            _print_endpoints(chain)
            while True:
                chain.require_running()
                time.sleep(_WATCH_S)
    except KeyboardInterrupt:
        print("chain: stopped", file=sys.stderr)


def start_detached(workdir: Path, parts: Sequence[str]) -> ChainState:
    """Run the chain in a process of its own and return when it is up.

    Out:    the state, also of a chain that was up already.
    Raises: UnavailableError, or ConfigError, when it does not come up; nothing runs then.
    """
    if state := read_state(workdir):
        return state
    workdir.mkdir(parents=True, exist_ok=True)
    pid = _spawn(workdir, parts)
    try:
        return _wait_up(pid, workdir)
    except KeyboardInterrupt:
        os.kill(pid, signal.SIGTERM)
        os.waitpid(pid, 0)
        raise


def stop_detached(workdir: Path) -> bool:
    """Stop the chain that runs in the folder; False when none does.

    Raises: UnavailableError when it is still there after STOP_LIMIT_S.
    """
    if not is_in_use(workdir):
        return False
    state = read_state(workdir)
    if state is None:
        raise UnavailableError(
            f"chain: {workdir}",
            "the chain is just being started or stopped",
            data="nothing was done",
            remedy="ask again in a minute",
        )
    os.kill(state.owner_pid, signal.SIGTERM)
    until = time.monotonic() + STOP_LIMIT_S
    while is_in_use(workdir):
        if time.monotonic() > until:
            raise UnavailableError(
                f"chain: {workdir}",
                f"process {state.owner_pid} still runs after {STOP_LIMIT_S:g} s",
                data="it was asked to stop",
                remedy=f"kill -9 {state.owner_pid}, which ends every part as well",
            )
        time.sleep(_POLL_S)
    return True


def _spawn(workdir: Path, parts: Sequence[str]) -> int:
    """Start the serving process; unlike with Popen nobody is told off for leaving it running."""
    command = [sys.executable, "-m", "cdc_sink.demo.chain.detached", str(workdir), *parts]
    log = str(workdir / _LOG)
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=files, setsid=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _print_endpoints(chain: Chain) -> None:
    state = read_state(chain.workdir)
    for name, part in state.parts.items() if state else ():
        print(f"{name:16} {part.endpoint}", flush=True)


def _wait_up(pid: int, workdir: Path) -> ChainState:
    """Pass on what it says until it is up."""
    started = time.monotonic()
    with (workdir / _LOG).open(encoding="utf-8", errors="replace") as log:
        while True:
            sys.stderr.write(log.read())
            if (state := read_state(workdir)) is not None:
                return state
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                sys.stderr.write(log.read())
                raise _not_up(workdir, os.waitstatus_to_exitcode(status))
            if time.monotonic() - started > 10 * START_LIMIT_S:  # a cold start fetches 300 MB
                os.kill(pid, signal.SIGTERM)
                raise _not_up(workdir, None)
            time.sleep(_POLL_S)


def _not_up(workdir: Path, code: int | None) -> CdcSinkError:
    kind = ConfigError if code == ConfigError.exit_code else UnavailableError
    saw = "it did not come up in time" if code is None else f"it ended with exit code {code}"
    log = workdir / _LOG
    return kind(f"chain: {workdir}", saw, data="nothing runs", remedy=f"read {log}")


if __name__ == "__main__":
    try:
        serve(Path(sys.argv[1]), sys.argv[2:])
    except CdcSinkError as error:
        print(f"Error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
