"""Program and environment of a service are frozen at its first start, until --refresh-env."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from ops.host import process
from tests.stack import Stack
from tests.waiting import until


def zone(stack: Stack) -> str | None:
    (one,) = stack.running("api")
    return process.variable(one.pid, "TZ")


def test_refresh_env_is_kept_for_the_next_start_of_a_running_service(stack: Stack) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start", env={"TZ": "Europe/Paris"})
    first = stack.pid("api")
    asked = stack.ok("start", "--refresh-env", "--check", "--json", env={"TZ": "Asia/Kolkata"})
    done = stack.ok("start", "--refresh-env", "--json", env={"TZ": "Asia/Kolkata"})
    assert asked.states == done.states == {"api": "changed"}
    assert "inv restart-one api" in done.outcomes["api"]["detail"]
    assert (stack.pid("api"), zone(stack)) == (first, "Europe/Paris")
    assert stack.ok("start", "--refresh-env", "--json", env={"TZ": "Asia/Kolkata"}).states == {"api": "ok"}
    os.kill(first, 9)
    until(lambda: not stack.running("api"))
    stack.ok("start", env={"TZ": "UTC"})
    assert zone(stack) == "Asia/Kolkata"


def test_the_python_placeholder_is_frozen_too(stack: Stack, tmp_path: Path) -> None:
    """Another venv's `inv` starts the service with the Python that it was first started with."""
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    frozen = json.loads((stack.state / "frozen.json").read_text())["services"]["api"]["programs"]
    assert frozen == {"{python}": sys.executable}
    other = tmp_path / "other"
    other.mkdir()
    os.symlink(os.path.realpath(sys.executable), other / "python")
    os.kill(stack.pid("api"), 9)
    until(lambda: not stack.running("api"))
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [other / "python", "-m", "invoke", "start"],
        cwd=stack.folder,
        env={**stack.env, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (one,) = stack.running("api")
    assert process.command_line(one.pid)[0] == sys.executable


def test_a_frozen_python_that_is_gone_is_found_afresh(stack: Stack, tmp_path: Path) -> None:
    stack.tiny("api")
    stack.write()
    stack.ok("start")
    stack.ok("stop")
    path = stack.state / "frozen.json"
    said = json.loads(path.read_text())
    said["services"]["api"]["programs"] = {"{python}": str(tmp_path / "gone")}
    path.write_text(json.dumps(said))
    assert shutil.which(str(tmp_path / "gone")) is None
    assert stack.ok("start", "--json").states == {"api": "changed"}
