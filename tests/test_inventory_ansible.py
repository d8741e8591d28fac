"""The real ansible-inventory and ours read the same files and must come to the same hosts, groups and variables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ops.errors import InventoryError
from ops.inventory import load, loads
from ops.model import Host

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(__file__).parent / "data" / "inventory"
OURS = {"ops", "services", "services_enabled"}
TRICKY = sorted(path.name for path in DATA.glob("*.yaml"))

ansible_inventory = shutil.which("ansible-inventory", path=os.path.dirname(sys.executable)) or shutil.which(
    "ansible-inventory"
)
pytestmark = pytest.mark.skipif(not ansible_inventory, reason="ansible-core is not installed (no ansible-inventory)")


def ask(path: Path, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """What ansible-inventory says of the file, without the configuration of this machine."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("ANSIBLE_")}
    environ |= {"ANSIBLE_CONFIG": str(DATA / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8", **settings}
    assert ansible_inventory
    command = [ansible_inventory, "-i", str(path), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, timeout=60)


@cache
def listed(name: str) -> dict[str, Any]:
    # Ansible calls it a duplicate when a key overrides a merged one; that is what `<<` is for.
    answer = ask(DATA / name, "--list", ANSIBLE_DUPLICATE_YAML_DICT_KEY="ignore")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == "", "a tricky file may not be one that Ansible warns of"
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def members(listing: dict[str, Any], group: str) -> set[str]:
    body = listing.get(group, {})
    below = (members(listing, child) for child in body.get("children", ()))
    return set(body.get("hosts", ())).union(*below)


def groups_by_ansible(listing: dict[str, Any], host: str) -> set[str]:
    # An empty group is only named, as somebody's child.
    return {group for group in listing if group not in ("_meta", "all") and host in members(listing, group)}


@pytest.mark.parametrize("name", TRICKY)
def test_the_same_hosts(name: str) -> None:
    assert {host.name for host in load(DATA / name).hosts} == members(listed(name), "all")


@pytest.mark.parametrize("name", TRICKY)
def test_the_same_variables(name: str) -> None:
    theirs = listed(name)["_meta"]["hostvars"]
    for host in load(DATA / name).hosts:
        expected = {key: value for key, value in theirs[host.name].items() if key not in OURS}
        assert dict(host.vars) == expected, host.name


@pytest.mark.parametrize("name", TRICKY)
def test_the_same_groups(name: str) -> None:
    for host in load(DATA / name).hosts:
        assert set(host.groups) == groups_by_ansible(listed(name), host.name), host.name
        assert list(host.groups) == sorted(host.groups)


def test_one_host_asked_alone() -> None:
    ours = load(DATA / "diamond.yaml").host("h2")
    theirs = json.loads(ask(DATA / "diamond.yaml", "--host", "h2").stdout)
    assert {**ours.vars, "services": theirs["services"]} == theirs


SECRETS = """
import importlib, json, yaml
found = []
for name in ("connection.ssh", "become.sudo", "become.su"):
    told = yaml.safe_load(importlib.import_module(f"ansible.plugins.{name}").DOCUMENTATION)["options"]
    for option in told.keys() & {"password", "become_pass", "private_key", "private_key_passphrase"}:
        found += [one["name"] for one in told[option]["vars"]]
print(json.dumps(found))
"""


def test_every_secret_that_ansible_knows_is_refused() -> None:
    asked = subprocess.run([sys.executable, "-c", SECRETS], capture_output=True, text=True, timeout=60)
    keys = json.loads(asked.stdout)
    assert {"ansible_password", "ansible_become_pass"} <= set(keys)
    for key in keys:
        text = f"all: {{vars: {{services: {{web: {{command: x}}}}}}, hosts: {{h: {{{key}: x}}}}}}"
        with pytest.raises(InventoryError) as caught:
            loads(text.encode(), Path("/etc/ops/inventory.yaml"))
        assert key in caught.value.mistakes[0]


@pytest.mark.parametrize("name", TRICKY)
def test_the_same_groups_from_the_hosts_of_each(name: str) -> None:
    inventory = load(DATA / name)
    assert inventory.groups.keys() >= {"all", "ungrouped"}
    for group, hosts in inventory.groups.items():
        assert set(hosts) == members(listed(name), group), group
        assert len(hosts) == len(set(hosts))


@pytest.mark.parametrize("path", ["inventory.yaml", "examples/node/inventory.yaml"])
def test_what_we_ship_is_an_ansible_inventory_without_a_warning(path: str) -> None:
    answer = ask(ROOT / path, "--list")
    assert (answer.returncode, answer.stderr) == (0, "")
    host: Host = load(ROOT / path).host("localhost")
    theirs = json.loads(answer.stdout)["_meta"]["hostvars"]["localhost"]
    assert [service.name for service in host.services] == theirs["services_enabled"]
    assert set(theirs["services_enabled"]) <= set(theirs["services"])
