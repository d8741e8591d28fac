"""An inventory that is right: what each key becomes, where the file is found, what the shipped one promises."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ops.errors import InventoryError
from ops.inventory import load, loads, locate
from ops.model import Host, Inventory, Probe, Service
from tests.waiting import free_port, until

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ["inventory.yaml", "examples/node/inventory.yaml"]


def read(text: str, path: str = "/srv/Pay Stack/inventory.yaml") -> Inventory:
    return loads(text.encode(), Path(path))


def only_host(variables: str, path: str = "/srv/Pay Stack/inventory.yaml") -> Host:
    (host,) = read(f"all: {{vars: {{{variables}}}}}", path).hosts
    return host


def service(body: str, ops: str = "") -> Service:
    (found,) = only_host(f"ops: {{{ops}}}, services: {{web: {{command: [serve], {body}}}}}").services
    return found


def probe(body: str) -> Probe:
    (found,) = service(f"port: 80, interval: 7, timeout: 3, health: [{{{body}}}]").health
    return found


def test_what_a_service_is_when_only_its_command_is_given() -> None:
    assert service("") == Service("web", ("serve",))


def test_every_key_of_a_service() -> None:
    found = service(
        "cwd: sub, port: 8080, critical: true, env: {A: text, B: 5, C: 1.10, D: ''}, env_file: .env, log: /l,"
        "pid_file: /p, start_timeout: 9, start_time: 0, grace: 2.5, stop_signal: sigint, max_rss: 512 MiB,"
        "on_need_restart: restart, interval: 1, timeout: 2, attempts: 4, delay: 0, confirm: 0, calm: 5,"
        "retry_max: 6, recovery_budget: 7, log_size: 10MB, log_keep: 8"
    )
    assert found == Service(
        name="web", command=("serve",), cwd="sub", port=8080, critical=True, env_file=".env", log="/l",
        env={"A": "text", "B": "5", "C": "1.10", "D": ""}, pid_file="/p", start_timeout=9, start_time=0, grace=2.5,
        stop_signal="INT", max_rss=512 * 1024 * 1024, on_need_restart="restart", interval=1, timeout=2, attempts=4,
        delay=0, confirm=0, calm=5, retry_max=6, recovery_budget=7, log_size=10_000_000, log_keep=8,
    )  # fmt: skip


def test_a_default_of_ops_holds_unless_the_service_says_otherwise() -> None:
    assert service("", ops="interval: 9, log_keep: 2, confirm: 3").interval == 9
    assert service("interval: 4", ops="interval: 9").interval == 4
    assert service("", ops="log_keep: 2").log_keep == 2


@pytest.mark.parametrize(
    ("written", "argv"),
    [
        ("[node, index.js, 5, '{port}']", ("node", "index.js", "5", "{port}")),
        ("node 'my index.js' --flag=\"a b\"", ("node", "my index.js", "--flag=a b")),
        ('["{python}", -m, ops.sample]', ("{python}", "-m", "ops.sample")),
    ],
)
def test_commands(written: str, argv: tuple[str, ...]) -> None:
    body = f"all:\n  vars:\n    services:\n      web:\n        port: 1\n        command: {written}\n"
    (found,) = read(body).hosts[0].services
    assert found.command == argv


def test_probes_have_the_timings_of_their_service_unless_they_have_their_own() -> None:
    assert probe("http: /") == Probe("http", "/", every=7, timeout=3)
    assert probe("tcp: 81, every: 0.5, timeout: 1") == Probe("tcp", "81", every=0.5, timeout=1)
    assert probe("command: check it, restart: false").command == ("check", "it")


@pytest.mark.parametrize(
    ("written", "ranges"),
    [
        ("204", ((204, 204),)),
        ("200-299", ((200, 299),)),
        ("[200, 201, 300-302]", ((200, 200), (201, 201), (300, 302))),
    ],
)
def test_status(written: str, ranges: tuple[tuple[int, int], ...]) -> None:
    assert probe(f"http: /, status: {written}").status == ranges


def test_what_an_http_probe_may_expect() -> None:
    found = probe("http: 'https://h:1/x', method: post, body: '~o+k', json: [{a: [1, null]}], header: {X-A: 1}")
    assert (found.target, found.method, found.body) == ("https://h:1/x", "POST", "~o+k")
    assert (found.json, found.header) == ([{"a": [1, None]}], {"X-A": "1"})


def test_the_stack_is_named_after_its_folder_unless_it_is_named() -> None:
    unnamed = only_host("services: {a: {command: b}}").stack
    assert (unnamed.name, unnamed.label) == ("pay-stack", "com.pay-stack.servicemonitor")
    named = only_host("ops: {name: x, alert_command: page 'on call'}, services: {a: {command: b}}").stack
    assert (named.name, named.label, named.alert_command) == ("x", "com.x.servicemonitor", ("page", "on call"))
    assert only_host("services: {a: {command: b}}", "/Ünder/_.-/inventory.yaml").stack.name == "ops"


def test_services_are_in_the_order_they_are_enabled_in() -> None:
    catalogue = "services: {a: {command: x}, b: {command: x}, c: {command: x}}"
    assert [s.name for s in only_host(catalogue).services] == ["a", "b", "c"]
    assert [s.name for s in only_host(f"{catalogue}, services_enabled: [c, a]").services] == ["c", "a"]


def test_hosts_have_their_own_services_root_and_connection(tmp_path: Path) -> None:
    text = """
all:
  vars:
    ops: {name: first}
    services: {a: {command: x}, b: {command: x, port: 5}}
  hosts:
    localhost:
    here: {ansible_connection: local, ops_root: "~/stack", services_enabled: [b]}
    far: {ops_root: "~/stack", services_enabled: []}
    other: {ops_root: /opt/x, ops: {name: second}, services: {b: {command: y}}}
"""
    localhost, here, far, other = read(text, str(tmp_path / "inventory.yaml")).hosts
    assert (localhost.connection, localhost.root) == ("local", os.path.realpath(tmp_path))
    assert (here.connection, here.root) == ("local", os.path.realpath(Path.home() / "stack"))
    assert [s.name for s in here.services] == ["b"]
    assert (far.connection, far.root, far.services) == ("ssh", "~/stack", ())
    assert (other.root, other.stack.name, other.services) == ("/opt/x", "second", (Service("b", ("y",)),))
    assert far.vars == {"ops_root": "~/stack"}


def test_how_a_host_is_reached_stays_as_it_is_written() -> None:
    h1, h2, h3 = load(Path(__file__).parent / "data" / "inventory" / "reach.yaml").hosts
    jump = '-o ProxyJump=ops@bastion -o "ServerAliveInterval 5"'
    assert (h1.vars["ansible_ssh_common_args"], h1.vars["ansible_ssh_port"]) == (jump, 2222)
    assert (h1.vars["ansible_timeout"], h1.vars["ansible_ssh_timeout"]) == (2.5, 7)
    assert (h2.vars["ansible_ssh_common_args"], h2.vars["ansible_ssh_extra_args"]) == ("", "-4")
    assert h2.vars["ansible_private_key_file"] == "~/.ssh/id_h2"
    assert (h3.vars["ansible_become_user"], h3.vars["ansible_become_method"]) == ("ops", "ansible.builtin.sudo")
    assert {host.connection for host in (h1, h2, h3)} == {"ssh"}


def test_without_hosts_it_is_about_this_machine() -> None:
    host = only_host("services: {a: {command: x}}, colour: red")
    assert (host.name, host.connection, host.groups, host.vars) == ("localhost", "local", (), {"colour": "red"})


def test_aliases_and_merge_keys_save_typing() -> None:
    text = """
all:
  vars:
    services:
      a: &a {command: x, port: 1, grace: 1, health: &ask [{http: /}]}
      b: {<<: *a, port: 2, health: *ask}
"""
    a, b = read(text).hosts[0].services
    assert (b.command, b.port, b.grace, b.health) == (a.command, 2, 1, a.health)


def test_a_byte_order_mark_and_windows_line_ends_do_no_harm() -> None:
    text = "\ufeffall:\r\n  vars:\r\n    services: {a: {command: x}}\r\n"
    assert read(text).hosts[0].services == (Service("a", ("x",)),)


def test_it_loads_in_little_time() -> None:
    """A hundred services took 17 ms on the machine this was written on; the bound only catches a square."""
    bodies = "".join(
        f"      s{i}: {{command: [x, '{{port}}'], port: {i + 1}, needs: [s0], log: /l/{i}, env: {{A: b}}, "
        f"health: [{{http: /health, json: {{status: healthy}}}}]}}\n"
        for i in range(1, 1000)
    )
    text = f"all:\n  vars:\n    services:\n      s0: {{command: x}}\n{bodies}"
    code = "import sys, time, pathlib, ops.inventory as i; t = sys.stdin.buffer.read(); s = time.process_time();"
    code += "i.loads(t, pathlib.Path('i.yaml')); print(time.process_time() - s)"
    run = subprocess.run(
        [sys.executable, "-c", code], input=text.encode(), capture_output=True, timeout=60, cwd=ROOT, check=True
    )
    assert float(run.stdout) < 2


# The shipped inventories


@pytest.mark.parametrize("path", SHIPPED)
def test_the_shipped_worst_cases_fit_the_budget(path: str) -> None:
    services = load(ROOT / path).host("localhost").services
    worst = {found.name: found.worst_case() for found in services}
    assert worst.pop("recon-api") == 13  # 2 + 2 + 3 + 4 + 2
    assert all(seconds is not None and seconds <= 27 for seconds in worst.values()), worst
    assert all(found.recovery_budget == 30 for found in services)


@pytest.mark.parametrize("path", SHIPPED)
def test_the_shipped_services_are_the_runbook_s(path: str) -> None:
    host = load(ROOT / path).host("localhost")
    ports = {"recon-api": 5103, "frontend": 5174, "overview-api": 5105, "pg-api": 5101, "bank-api": 5102}
    if path.startswith("examples"):
        ports.pop("frontend")  # described, but not enabled until there is Vite
    assert {found.name: found.port for found in host.services} == ports
    assert [found.name for found in host.services if found.critical] == [*ports][: len(ports) - 3]
    assert all(found.log == f"/tmp/{found.name}.log" for found in host.services)
    assert all(found.pid_file == f"/tmp/{found.name}.pid" for found in host.services)
    assert host.service("recon-api").needs == ("pg-api", "bank-api")
    assert host.service("overview-api").needs == ("pg-api", "bank-api", "recon-api")
    assert "frontend" not in ports or host.service("frontend").needs == ("recon-api", "overview-api")
    assert host.stack.alerts_log == "/tmp/critical-alerts.log"


def test_the_shipped_stack_is_the_runbook_s() -> None:
    stack = load(ROOT / "inventory.yaml").stack
    assert (stack.name, stack.label) == ("settlepaisa", "com.settlepaisa.servicemonitor")


@contextmanager
def node(name: str) -> Iterator[str]:
    port = free_port()
    service = load(ROOT / "examples/node/inventory.yaml").host("localhost").service(name)
    folder = ROOT / "examples/node" / service.cwd
    with subprocess.Popen(service.command, cwd=folder, env={**os.environ, "PORT": str(port)}) as child:
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            child.terminate()
            assert child.wait(10) == 0


def answer(method: str, url: str) -> tuple[int, Any]:
    request = urllib.request.Request(url, method=method)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as response:
        return response.status, json.loads(response.read())


def answers(method: str, url: str) -> tuple[int, Any] | None:
    try:
        return answer(method, url)
    except OSError:
        return None


@pytest.mark.skipif(not any(os.access(f"{d}/node", os.X_OK) for d in os.get_exec_path()), reason="no node here")
@pytest.mark.parametrize("name", ["recon-api", "overview-api", "pg-api", "bank-api"])
def test_the_node_example_answers_its_probes(name: str) -> None:
    probes = load(ROOT / "examples/node/inventory.yaml").host("localhost").service(name).health
    with node(name) as url:
        until(lambda: answers(probes[0].method, url + probes[0].target), within=20)
        for asked in probes:
            status, document = answer(asked.method, url + asked.target)
            assert any(low <= status <= high for low, high in asked.status)
            assert asked.json is None or asked.json.items() <= document.items()


# Finding the file


def located(cwd: Path, **environ: str) -> str:
    """What `locate` says in a process of its own; its error's lines when there is one."""
    code = (
        "import ops.inventory, ops.errors\n"
        "try: print(ops.inventory.locate())\n"
        "except ops.errors.InventoryError as e: print(*e.lines(), sep='\\n')"
    )
    kept = {key: value for key, value in os.environ.items() if key != "OPS_INVENTORY"}
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd, env={**kept, "PYTHONPATH": str(ROOT), **environ}, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert run.stderr == ""
    return run.stdout.strip()


def test_it_is_found_upward_only_beside_a_tasks_file(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "inventory.yaml").touch()
    (tmp_path / "inventory.yaml").touch()
    (tmp_path / "tasks.py").touch()
    assert located(deep) == str(tmp_path.resolve() / "inventory.yaml")


def test_the_variable_wins_and_must_name_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    assert located(tmp_path, OPS_INVENTORY="mine.yaml") == str(tmp_path.resolve() / "mine.yaml")
    assert "OPS_INVENTORY names nowhere.yaml, which does not exist" in located(tmp_path, OPS_INVENTORY="nowhere.yaml")


def test_elsewhere_it_is_the_checkout_s(tmp_path: Path) -> None:
    assert located(tmp_path) == located(tmp_path, OPS_INVENTORY="") == str(ROOT / "inventory.yaml")


def test_here_it_is_absolute() -> None:
    assert locate().is_absolute()


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere.yaml", "does not exist"), ("folder", "is a folder"), ("pipe", "not a regular file")]
)
def test_what_cannot_be_read_is_said(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InventoryError, match=said) as caught:
        load(tmp_path / name)
    assert "OPS_INVENTORY=" in caught.value.next


@contextmanager
def somebody_else() -> Iterator[None]:
    """Root may read everything, so root becomes nobody for a moment."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_file_that_this_user_may_not_read_is_said(tmp_path: Path) -> None:
    path = tmp_path / "inventory.yaml"
    path.touch(mode=0)
    with somebody_else(), pytest.raises(InventoryError, match="may not be read by this user"):
        load(path)
