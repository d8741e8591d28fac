"""A document becomes an Inventory.

Knows: which variables are ours, and what follows for each host. Must not know: where the document came from,
what is done with the result.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

from ops.inventory import values
from ops.inventory.catalogue import Catalogue
from ops.inventory.groups import ALL, UNGROUPED, Group, Member, Tree, Variables
from ops.inventory.mistakes import Mistakes
from ops.inventory.nodes import Node, Spot, plain
from ops.inventory.services import Settings, read_settings
from ops.model import LOCALHOST, Host, Inventory, Service

OURS = frozenset({"ops", "services", "services_enabled"})
SSH = ("ssh", "smart", "paramiko", "paramiko_ssh", "ansible.builtin.ssh")
LOCAL = ("local", "ansible.builtin.local")


def _ssh_options(spot: Spot) -> tuple[str, ...]:
    """Options of OpenSSH in one text, as on its command line; an empty one takes back what a group says."""
    if not isinstance(spot.node.value, str):
        raise spot.wrong("a text such as '-o ProxyJump=bastion'")
    return values.argv(spot) if spot.node.value.strip() else ()


# Of Ansible's variables, these are acted upon.
ANSIBLE: dict[str, values.Reader] = {
    "ansible_connection": values.matching(re.compile("|".join((*LOCAL, *SSH))), "local or ssh"),
    "ansible_host": values.text,
    "ansible_ssh_host": values.text,
    "ansible_user": values.text,
    "ansible_ssh_user": values.text,
    "ansible_port": values.port,
    "ansible_ssh_port": values.port,
    "ansible_private_key_file": values.text,
    "ansible_ssh_private_key_file": values.text,
    "ansible_ssh_args": _ssh_options,
    "ansible_ssh_common_args": _ssh_options,
    "ansible_ssh_extra_args": _ssh_options,
    "ansible_timeout": values.seconds(),
    "ansible_ssh_timeout": values.seconds(),
    "ansible_host_key_checking": values.boolean,
    "ansible_ssh_host_key_checking": values.boolean,
    "ansible_python_interpreter": values.text,
    "ansible_become": values.boolean,
    "ansible_become_user": values.text,
    "ansible_become_method": values.matching(re.compile(r"(?:ansible\.builtin\.)?sudo"), "sudo, the only way here"),
}

# Whatever a plug-in of Ansible's takes as a password, and the text of a key itself.
_SECRET = re.compile(r"ansible_(?:.*_)?(?:pass(?:word|wd|phrase|code)?|private_key)")

T = TypeVar("T")


def resolve(document: Node, path: str, mistakes: Mistakes) -> Inventory:
    """The inventory that the document describes. It is worth nothing when there are `mistakes` afterwards."""
    root = Spot(document, "", document.line, mistakes)
    _refuse_secrets(document, mistakes, set())
    return _Resolver(Tree(root), path).inventory(root)


def _refuse_secrets(node: Node, mistakes: Mistakes, seen: set[int]) -> None:
    """A secret in a file that is committed and copied is a leak; it is not repeated here either."""
    if id(node) in seen:
        return
    seen.add(id(node))
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            if isinstance(key, str) and key.startswith("ansible_") and _SECRET.fullmatch(key):
                found = "a private key" if key.endswith("key") else "a password"
                mistakes.add(node.lines[key], key, found, "none: use keys in files of their own and an ssh agent")
            _refuse_secrets(child, mistakes, seen)
    elif isinstance(node.value, list):
        for child in node.value:
            _refuse_secrets(child, mistakes, seen)


class _Resolver:
    """What hosts share (nearly always everything) is read once, and told of once."""

    def __init__(self, tree: Tree, path: str) -> None:
        self._tree = tree
        self._path = path
        self._folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
        self._known: dict[tuple[Any, ...], Any] = {}

    def inventory(self, root: Spot) -> Inventory:
        hosts = [self._host(name) for name in self._tree.hosts]
        groups = self._tree.hosts_by_group()
        if not hosts:  # a file without hosts is about the machine it is on, as with Ansible
            hosts = [self._built(LOCALHOST, self._tree.groups[ALL].vars, ())]
            groups |= {ALL: (LOCALHOST,), UNGROUPED: (LOCALHOST,)}
        stack = self._settings(self._tree.groups[ALL].vars).stack
        self._read_the_rest(root)
        return Inventory(os.path.abspath(self._path), stack, tuple(hosts), groups=groups)

    def _host(self, name: str) -> Host:
        return self._built(name, self._tree.variables_of(name), self._tree.groups_of(name))

    def _built(self, name: str, variables: Variables, groups: tuple[str, ...]) -> Host:
        read = self._read_ansible(variables)
        asked = read.get("ansible_connection", "local" if name == LOCALHOST else "ssh")
        connection: Literal["local", "ssh"] = "local" if asked in LOCAL else "ssh"
        return Host(
            name=name,
            root=self._root(variables.get("ops_root"), connection == "local"),
            services=self._services(variables),
            stack=self._settings(variables).stack,
            connection=connection,
            groups=groups,
            vars={key: self._plain(value) for key, value in variables.items() if key not in OURS},
        )

    def _read_ansible(self, variables: Variables) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, reader in ANSIBLE.items():
            if key in variables:
                values.keep(found, key, reader, variables[key])
        return found

    def _root(self, spot: Spot | None, local: bool) -> str:
        if spot is None:
            return self._folder
        found: dict[str, str] = {}
        values.keep(found, "root", values.text, spot)
        root = os.path.expanduser(found.get("root", "/")) if local else found.get("root", "/")
        # On another host, `~` is that host's to expand.
        if not os.path.isabs(root) and (local or not root.startswith("~")):
            spot.complain("an absolute path")
        return os.path.realpath(root) if local else root

    def _settings(self, variables: Variables) -> Settings:
        spot = variables.get("ops")
        return self._once(("ops", _node(spot)), lambda: read_settings(spot, os.path.basename(self._folder)))

    def _catalogue(self, variables: Variables) -> Catalogue | None:
        spot = variables.get("services")
        if spot is None:
            return None
        settings = self._settings(variables)
        key = ("services", _node(spot), _node(variables.get("ops")))
        return self._once(key, lambda: Catalogue(spot, settings.defaults))

    def _services(self, variables: Variables) -> tuple[Service, ...]:
        catalogue = self._catalogue(variables)
        spot = variables.get("services_enabled")
        if catalogue is None:
            return ()
        return self._once(("enabled", id(catalogue), _node(spot)), lambda: catalogue.enabled(spot))

    def _plain(self, spot: Spot) -> Any:
        return self._once(("plain", id(spot.node)), lambda: plain(spot.node))

    def _read_the_rest(self, root: Spot) -> None:
        """What no host ends up with is read too, for its mistakes; and there must be a service somewhere."""
        everywhere: list[Group | Member] = [*self._tree.groups.values(), *self._tree.hosts.values()]
        for holder in everywhere:
            if "services" in holder.vars or "ops" in holder.vars:
                self._settings(holder.vars)
                self._catalogue(holder.vars)
        if not any("services" in holder.vars for holder in everywhere):
            names: Mapping[str, Spot] = self._tree.groups[ALL].vars
            near = next((name for name in names if name.startswith("service")), None)
            root.mistakes.add(root.line, "all.vars.services", "not given", "a mapping of services", near, ["services"])

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        found: T = self._known[key]
        return found


def _node(spot: Spot | None) -> int:
    return id(spot.node) if spot else 0
