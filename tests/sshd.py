"""Real SSH hosts on loopback: an sshd of its own for each, with a host key, a port and a HOME of its own.

hosts = SshHosts(folder, 3)            # h1, h2, h3, up; hosts.home is the HOME of a client that knows all of them
hosts["h1"].freeze()                   # and stop, start, thaw, cut, change_key
hosts.variables("h1")                  # for an inventory that is to do without ~/.ssh/config
hosts.down()                           # ends what was started, by pid
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.waiting import free_port, until

USER = pwd.getpwuid(os.getuid()).pw_name
_PLACES = ("/usr/sbin/sshd", "/usr/local/sbin/sshd", "/opt/homebrew/sbin/sshd")

# SHLVL=2: else Debian's bash reads ~/.bashrc for every command that comes by ssh, which takes seconds where it starts
# pyenv or nvm.
CONFIG = """\
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
PidFile {folder}/pid
AuthorizedKeysFile {folder}/authorized_keys
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 200:30:400
MaxSessions 100
UseDNS no
PrintMotd no
PrintLastLog no
LogLevel VERBOSE
SetEnv HOME={home} SHLVL=2
Subsystem sftp internal-sftp
"""


def obstacle() -> str:
    """Why no sshd can be run here; "" when one can."""
    if sys.platform == "win32":
        return "no POSIX"
    lacking = [] if _sshd() else ["sshd"]
    lacking += [name for name in ("ssh-keygen", "ssh") if shutil.which(name) is None]
    return f"not installed: {', '.join(lacking)}" if lacking else ""


def _sshd() -> str:
    """sshd wants to be called by its whole path."""
    return next((place for place in (shutil.which("sshd"), *_PLACES) if place and os.path.exists(place)), "")


def make_key(path: Path, *more: str, kind: str = "ed25519", passphrase: str = "") -> Path:
    """A new key, in the place of an old one."""
    for old in (path, path.with_name(f"{path.name}.pub")):
        old.unlink(missing_ok=True)
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-C", path.name, "-f", str(path), *more]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=20)
    return path


def public(path: Path) -> str:
    """`ssh-ed25519 AAAA...`: the public half of a key, without its comment."""
    return " ".join(path.with_name(f"{path.name}.pub").read_text().split()[:2])


class Sshd:
    """One host. `settings` are lines of sshd_config, in the place of the usual ones; a HostKey is one more."""

    def __init__(self, name: str, folder: Path, client_key: Path, settings: str = "") -> None:
        self.name = name
        self.folder = folder
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        self.key = make_key(folder / "host_key")
        self.authorized_keys = folder / "authorized_keys"
        self.authorized_keys.write_text(public(client_key) + "\n")
        self.settings = settings
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, f"{self.name} is not running"
        return self._process

    @property
    def known_as(self) -> str:
        return f"[127.0.0.1]:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> None:
        """Up, on the port that it had before; on a free one when it had none."""
        fixed = self.port
        for _ in range(20):
            self.port = fixed or free_port()
            if self._tried():
                return
        raise AssertionError(f"{self.name} does not start: {self.log}")

    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _tried(self) -> bool:
        config, pid = self.folder / "sshd_config", self.folder / "pid"
        config.write_text(self.settings + self._usual())
        pid.unlink(missing_ok=True)
        command = [_sshd(), "-D", "-f", str(config), "-E", str(self.folder / "log")]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, start_new_session=True)
        # The pid file is written once it listens.
        until(lambda: self.process.poll() is not None or (pid.exists() and pid.read_text().strip()))
        return self.process.poll() is None

    def _usual(self) -> str:
        """What the settings do not say themselves; of MaxStartups sshd takes the last one, of most others the first."""
        said = {line.split()[0] for line in self.settings.splitlines()} - {"HostKey"}
        lines = CONFIG.format(port=self.port, folder=self.folder, home=self.home).splitlines(keepends=True)
        return "".join(line for line in lines if line.split()[0] not in said)

    def stop(self) -> None:
        """Down, with every session: a host that was switched off, but for what runs in sessions of its own."""
        if self._process is None:
            return
        if self.is_up():
            self.freeze()
            self._kill(self._below)
        self.process.kill()
        self.process.wait(10)
        self._process = None

    def freeze(self) -> None:
        """Accepts connections, as the kernel does for it, and says nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def change_key(self) -> None:
        """Another host key: the host was set up anew, or is another one."""
        self.stop()
        make_key(self.key)
        self.start()

    def sessions(self) -> list[psutil.Process]:
        """The processes that sshd has forked for its connections; not what runs in them."""
        return [one for one in self._below() if _is_sshd(one)]

    def _below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def cut(self) -> int:
        """Drops all its connections; how many processes ended for that."""
        return self._kill(self.sessions)

    def _kill(self, look: Callable[[], list[psutil.Process]]) -> int:
        """Stops what is seen before it looks again: whoever is just forking would leave an orphan behind."""
        found: dict[int, psutil.Process] = {}
        while new := [one for one in look() if one.pid not in found]:
            for one in new:
                found[one.pid] = one
                with contextlib.suppress(psutil.NoSuchProcess):
                    one.suspend()
        for one in found.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()
        # They are sshd's to reap, which may be frozen.
        until(lambda: not any(_runs(one) for one in found.values()))
        return len(found)


def _runs(one: psutil.Process) -> bool:
    try:
        return bool(one.is_running() and one.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _is_sshd(one: psutil.Process) -> bool:
    try:
        return one.name().startswith("sshd")
    except psutil.NoSuchProcess:
        return False


class SshHosts:
    """`count` hosts that are up, and a client's HOME whose ~/.ssh knows all of them."""

    def __init__(self, folder: Path, count: int, settings: str = "") -> None:
        why = obstacle()
        assert not why, why
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)  # where sshd locks its unprivileged half in
        self.folder = folder
        self.home = folder / "client"
        self.ssh = self.home / ".ssh"
        self.ssh.mkdir(parents=True, mode=0o700)
        self.key = make_key(self.ssh / "the_key")
        self.known_hosts = self.ssh / "known_hosts"
        self.config = self.ssh / "config"
        self._jumps: dict[str, str] = {}
        self.hosts = {name: Sshd(name, folder / name, self.key, settings) for name in _names(count)}
        try:
            for host in self.hosts.values():
                host.start()
        except BaseException:
            self.down()
            raise
        self.write()

    def __getitem__(self, name: str) -> Sshd:
        return self.hosts[name]

    def __enter__(self) -> SshHosts:
        return self

    def __exit__(self, *what: object) -> None:
        self.down()

    def as_new(self) -> None:
        """All hosts up, the client's key accepted by all and their keys known to it, nobody behind another."""
        self._jumps.clear()
        for host in self.hosts.values():
            host.authorized_keys.write_text(public(self.key) + "\n")
            if host.is_up():
                host.thaw()
            else:
                host.start()
        self.write()

    def write(self) -> None:
        """The client's ~/.ssh/config and known_hosts, as the hosts are now."""
        self.config.write_text("".join(self._block(host) for host in self.hosts.values()))
        self.config.chmod(0o600)
        self.trust()

    def trust(self) -> None:
        """known_hosts holds the keys that the hosts have now."""
        self.known_hosts.write_text("".join(f"{one.known_as} {public(one.key)}\n" for one in self.hosts.values()))

    def _block(self, host: Sshd) -> str:
        lines = [f"Host {host.name}", "HostName 127.0.0.1", f"Port {host.port}", f"User {USER}"]
        # ssh(1) itself goes by the passwd entry, not by $HOME, so the file is named.
        lines += [f"IdentityFile {self.key}", "IdentitiesOnly yes", f"UserKnownHostsFile {self.known_hosts}"]
        lines += [f"ProxyJump {self._jumps[host.name]}"] if host.name in self._jumps else []
        return "\n  ".join(lines) + "\n\n"

    def behind(self, name: str, jump: str) -> None:
        """From now on the client reaches the host through another one."""
        self._jumps[name] = jump
        self.write()

    def variables(self, name: str) -> dict[str, Any]:
        """What an inventory says of the host when ~/.ssh/config says nothing."""
        found = {"ansible_host": "127.0.0.1", "ansible_port": self[name].port, "ansible_user": USER}
        return {**found, "ansible_ssh_private_key_file": str(self.key)}

    def down(self) -> None:
        """Ends all that runs; may be called again."""
        for host in self.hosts.values():
            host.stop()


def _names(count: int) -> list[str]:
    return [f"h{number}" for number in range(1, count + 1)]


class Mute:
    """Accepts connections, as the kernel does for it, and never says a word."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.bind(("127.0.0.1", 0))
        self._socket.listen(128)
        self.port: int = self._socket.getsockname()[1]

    def down(self) -> None:
        self._socket.close()


class Deaf(Mute):
    """Does not even accept: its backlog is full, so what is sent to it is dropped as by a firewall."""

    def __init__(self) -> None:
        super().__init__()
        self._socket.listen(0)
        self._calls: list[socket.socket] = []
        while self._is_accepted():
            assert len(self._calls) < 100, "the backlog does not fill"

    def _is_accepted(self) -> bool:
        call = socket.socket()
        self._calls.append(call)
        call.settimeout(0.2)
        try:
            call.connect(("127.0.0.1", self.port))
        except TimeoutError:
            return False
        return True

    def down(self) -> None:
        super().down()
        for call in self._calls:
            call.close()


class Talker(Mute):
    """Accepts, says the same to everybody (nothing, if so), and hangs up; counts its callers."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.callers = 0
        self._text = text
        self._thread = threading.Thread(target=self._talk, daemon=True)
        self._thread.start()

    def _talk(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                call, _ = self._socket.accept()
                self.callers += 1
                with call, contextlib.suppress(OSError):
                    call.sendall(self._text)

    def down(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        super().down()
        self._thread.join(10)


@contextlib.contextmanager
def agent(folder: Path) -> Iterator[SshAgent]:
    """A real ssh-agent, ended by pid afterwards."""
    made = SshAgent(folder / "agent")
    try:
        yield made
    finally:
        made.down()


class SshAgent:
    """`socket` is for SSH_AUTH_SOCK."""

    def __init__(self, place: Path) -> None:
        self.socket = str(place)
        null = subprocess.DEVNULL
        self.process = subprocess.Popen(["ssh-agent", "-D", "-a", self.socket], stdin=null, stdout=null, stderr=null)
        until(place.exists)

    def add(self, key: Path, passphrase: str = "") -> None:
        """Holds the key from now on; a copy without the passphrase is what ssh-add is shown."""
        shown = key
        if passphrase:
            shown = key.with_name(f"{key.name}.shown")
            shutil.copy(key, shown)
            shown.chmod(0o600)
            self._run("ssh-keygen", "-p", "-q", "-P", passphrase, "-N", "", "-f", str(shown))
        self._run("ssh-add", "-q", str(shown))
        if shown != key:
            shown.unlink()

    def _run(self, *command: str) -> None:
        environment = {**os.environ, "SSH_AUTH_SOCK": self.socket}
        subprocess.run(command, check=True, capture_output=True, timeout=20, env=environment, stdin=subprocess.DEVNULL)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def down(self) -> None:
        self.process.kill()
        self.process.wait(10)
        Path(self.socket).unlink(missing_ok=True)
