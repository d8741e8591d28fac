#!/usr/bin/env python3
"""A model of launchctl and of the launchd behind it, for machines that have neither. Not a Mac.

It keeps what man pages and reports of others say, and was checked against those alone: the exit codes, `bootout`
that returns before the job is gone, `bootstrap` that fails with 5 or 37 until then, labels that stay disabled over an
uninstall, domains that are not there, a definition that stays the old one while it is loaded, KeepAlive,
ThrottleInterval, ExitTimeOut, AbandonProcessGroup, an environment with nothing in it but what the plist says.

State lies in $LAUNCHCTL_MODEL: domains.json says which domains there are and what kind of session asks
({"domains": ["gui/501", "user/501"], "manager": "Aqua", "drain": 0.4}), `jobs/` has a file for each loaded job,
`disabled.json` the labels that are. Each job has a process of this program that keeps it; `__end` ends them all.
"""

from __future__ import annotations

import contextlib
import json
import os
import plistlib
import signal
import subprocess
import sys
import time
from pathlib import Path

MODEL = Path(os.environ["LAUNCHCTL_MODEL"])
JOBS = MODEL / "jobs"
STANDARD_PATH = "/usr/bin:/bin:/usr/sbin:/sbin"


def said(name: str, default: object) -> object:
    with contextlib.suppress(OSError, ValueError):
        return json.loads((MODEL / name).read_text())
    return default


def save(path: Path, value: object) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps(value))
    beside.replace(path)


def fail(code: int, words: str) -> int:
    print(words, file=sys.stderr)
    return code


def job_file(target: str) -> Path:
    return JOBS / target.replace("/", "_")


def job(target: str) -> dict[str, object] | None:
    with contextlib.suppress(OSError, ValueError):
        return json.loads(job_file(target).read_text())
    return None


def has(domain: str) -> bool:
    return domain in said("domains.json", {})["domains"]


# -- verbs -------------------------------------------------------------------------------------------------------


def managername() -> int:
    print(said("domains.json", {})["manager"])
    return 0


def show(target: str) -> int:
    domain, _, label = target.rpartition("/")
    if not has(domain):
        return fail(112, f"Could not find domain for {domain}")
    found = job(target)
    if found is None:
        return fail(113, f'Could not find service "{label}" in domain for {domain}')
    print(f"{target} = {{\n\tactive count = 1\n\tpath = {found['path']}\n\ttype = LaunchAgent")
    print(f"\tstate = {'running' if found.get('pid') else 'not running'}")
    if found.get("pid"):
        print(f"\n\tpid = {found['pid']}")
    print(f"\tlast exit code = {found.get('last', '(never exited)')}\n}}")
    return 0


def print_disabled(domain: str) -> int:
    print("\tdisabled services = {")
    for label, off in said("disabled.json", {}).get(domain, {}).items():
        print(f'\t\t"{label}" => {"disabled" if off else "enabled"}')
    print("\t}")
    return 0


def switch(target: str, off: bool) -> int:
    domain, _, label = target.rpartition("/")
    disabled = said("disabled.json", {})
    disabled.setdefault(domain, {})[label] = off
    save(MODEL / "disabled.json", disabled)
    return 0


def bootstrap(domain: str, path: str) -> int:
    if not has(domain):
        return fail(125, "Bootstrap failed: 125: Domain does not support specified action")
    try:
        plist = plistlib.loads(Path(path).read_bytes())
    except Exception:
        return fail(5, "Bootstrap failed: 5: Input/output error")
    info = os.lstat(path)
    if info.st_uid not in (0, os.geteuid()) or info.st_mode & 0o022 or not os.path.isfile(path):
        return fail(122, "Bootstrap failed: 122: Path had bad ownership/permissions")
    if said("disabled.json", {}).get(domain, {}).get(plist["Label"]):
        return fail(119, "Bootstrap failed: 119: Service is disabled")
    wanted = plist.get("LimitLoadToSessionType", "Aqua")
    if domain != "system" and (wanted == "Background") != domain.startswith("user/"):
        return fail(134, "Bootstrap failed: 134: Service cannot load in requested session")
    target = f"{domain}/{plist['Label']}"
    found = job(target)
    if found is not None and found.get("draining"):
        turn = int(found["asked"]) + 1
        save(job_file(target), {**found, "asked": turn})
        code = 37 if turn % 2 else 5
        return fail(code, f"Bootstrap failed: {code}: Input/output error")
    if found is not None:
        return fail(5, "Bootstrap failed: 5: Input/output error")
    save(job_file(target), {"path": path, "plist": str(path), "asked": 0})
    keeper(target, plist)
    until = time.monotonic() + 5
    while not (job(target) or {}).get("keeper") and time.monotonic() < until:
        time.sleep(0.005)
    return 0


def bootout(target: str) -> int:
    found = job(target)
    if found is None:
        return fail(3, "Boot-out failed: 3: No such process")
    if found.get("draining"):
        return fail(36, "Boot-out failed: 36: Operation now in progress")
    save(job_file(target), {**found, "draining": True})
    os.kill(int(found["keeper"]), signal.SIGTERM)
    return 0


def kickstart(words: list[str]) -> int:
    target = words[-1]
    found = job(target)
    if found is None:
        return fail(113, f"Could not find service {target}")
    if "-k" in words and found.get("pid"):
        os.kill(int(found["pid"]), signal.SIGKILL)
    os.kill(int(found["keeper"]), signal.SIGUSR1)
    return 0


def end_all() -> int:
    """Every keeper and its job, by pid; for the end of a test."""
    for path in JOBS.iterdir() if JOBS.is_dir() else ():
        found = json.loads(path.read_text())
        for pid in (found.get("keeper"), found.get("pid")):
            with contextlib.suppress(OSError, TypeError):
                os.kill(int(pid), signal.SIGKILL)
    return 0


# -- launchd's part ------------------------------------------------------------------------------------------------


class Keeper:
    """Keeps one job running, as its plist says."""

    def __init__(self, target: str, plist: dict[str, object]) -> None:
        self.target, self.plist = target, plist
        self.child: subprocess.Popen[bytes] | None = None
        self.ending = self.kicked = False
        self.spawned = 0.0
        signal.signal(signal.SIGTERM, self._end)
        signal.signal(signal.SIGUSR1, self._kick)

    def _end(self, *_: object) -> None:
        self.ending = True

    def _kick(self, *_: object) -> None:
        self.kicked = True

    def note(self, **facts: object) -> None:
        found = job(self.target) or {}
        save(job_file(self.target), {**found, "keeper": os.getpid(), **facts})

    def run(self) -> None:
        self.note(pid=None)
        wanted = bool(self.plist.get("RunAtLoad") or self.plist.get("KeepAlive"))
        while not self.ending:
            if self.child is None and (self.kicked or (wanted and self._may_spawn())):
                self.kicked = False
                self._spawn()
            if self.child is not None and self.child.poll() is not None:
                code = self.child.returncode
                self._bury()
                wanted = self._is_kept(code)
                self.note(pid=None, last=code)
            time.sleep(0.01)
        self._stop()

    def _may_spawn(self) -> bool:
        return time.monotonic() - self.spawned >= float(self.plist.get("ThrottleInterval", 10))

    def _spawn(self) -> None:
        self.spawned = time.monotonic()
        env = {"PATH": STANDARD_PATH, **self.plist.get("EnvironmentVariables", {})}
        streams = [open(self.plist.get(f"Standard{name}Path", os.devnull), "ab") for name in ("Out", "Error")]
        self.child = subprocess.Popen(
            self.plist["ProgramArguments"],
            cwd=self.plist.get("WorkingDirectory", "/"),
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=streams[0],
            stderr=streams[1],
            preexec_fn=os.setpgrp,  # noqa: PLW1509 - it has one thread; process_group came with Python 3.11
        )
        for stream in streams:
            stream.close()
        self.note(pid=self.child.pid)

    def _is_kept(self, code: int) -> bool:
        keep = self.plist.get("KeepAlive", False)
        if isinstance(keep, dict):
            return keep.get("SuccessfulExit") is (code == 0)
        return bool(keep)

    def _bury(self) -> None:
        assert self.child is not None
        if not self.plist.get("AbandonProcessGroup"):
            with contextlib.suppress(OSError):
                os.killpg(self.child.pid, signal.SIGKILL)
        self.child = None

    def _stop(self) -> None:
        if self.child is not None:
            self.child.terminate()
            try:
                self.child.wait(float(self.plist.get("ExitTimeOut", 20)))
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
            self._bury()
        time.sleep(float(said("domains.json", {}).get("drain", 0.4)))
        job_file(self.target).unlink()


def keeper(target: str, plist: dict[str, object]) -> None:
    """In a process of its own, which belongs to nobody."""
    if os.fork():
        os.wait()
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number)
    Keeper(target, plist).run()
    os._exit(0)


def main(words: list[str]) -> int:
    JOBS.mkdir(parents=True, exist_ok=True)
    verb, rest = words[0], words[1:]
    with (MODEL / "calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    verbs = {
        "managername": managername,
        "print": show,
        "print-disabled": print_disabled,
        "enable": lambda target: switch(target, False),
        "disable": lambda target: switch(target, True),
        "bootstrap": bootstrap,
        "bootout": bootout,
        "kickstart": lambda *words: kickstart(list(words)),
        "__end": end_all,
    }
    if verb not in verbs:
        return fail(64, f"Unrecognized subcommand: {verb}")
    return verbs[verb](*rest)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
