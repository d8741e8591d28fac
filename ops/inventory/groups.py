"""Ansible's part of the inventory: groups, hosts, and which variable wins.

Knows: hosts, children, vars; precedence by depth, priority and name; the implicit groups all and ungrouped.
Must not know: what the variables mean.

Source of the rules: ansible-core 2.19, plugins/inventory/yaml.py and inventory/{group,data,helpers}.py.
"""

from __future__ import annotations

from collections.abc import Mapping

from ops.inventory.nodes import Node, Spot
from ops.inventory.patterns import MOST_HOSTS, BadPattern, expand

ALL, UNGROUPED = "all", "ungrouped"
SECTIONS = ("hosts", "children", "vars")
MOST_GROUPS = 1_000
MOST_MENTIONS = 10 * MOST_HOSTS  # of hosts in groups
OURS = frozenset({"ops", "services", "services_enabled", "ops_root"})
Variables = dict[str, Spot]


class Group:
    """A group as written: its variables, what is directly above and below it, its rank among groups of its depth."""

    def __init__(self, name: str, spot: Spot) -> None:
        self.name = name
        self.spot = spot
        self.parents: dict[str, None] = {}  # a set that keeps the order of the file
        self.children: dict[str, None] = {}
        self.hosts: dict[str, None] = {}
        self.vars: Variables = {}
        self.priority = 1
        self.depth = 0


class Member:
    """A host as written: its own variables and the groups it is directly in."""

    def __init__(self, name: str, spot: Spot) -> None:
        self.name = name
        self.spot = spot
        self.groups: dict[str, None] = {}
        self.vars: Variables = {}


class Tree:
    """All groups and hosts of one document; `hosts` is in the order of the file."""

    def __init__(self, root: Spot) -> None:
        self.hosts: dict[str, Member] = {}
        self.groups: dict[str, Group] = {}
        self._mentions = 0
        self._merged: dict[tuple[str, ...], Mapping[str, Spot]] = {}
        self._above: dict[str, frozenset[str]] = {}
        _join(self._group(ALL, root), self._group(UNGROUPED, root))
        for name, spot in root.entries("a mapping with `all`"):
            self._read_group(name, spot)
        self._finish()

    def groups_of(self, host: str) -> tuple[str, ...]:
        """The names of all groups that the host is in, sorted, without `all`."""
        member = self.hosts[host]
        found = set(member.groups).union(*(self._ancestors(name) for name in member.groups)) - {ALL}
        if len(found) > 1:
            found.discard(UNGROUPED)
        return tuple(sorted(found or {UNGROUPED}))

    def variables_of(self, host: str) -> Variables:
        """The variables of the host: its own, else those of the group that wins."""
        groups = self.groups_of(host)
        if groups not in self._merged:
            self._merged[groups] = self._merge(groups)
        return {**self._merged[groups], **self.hosts[host].vars}

    def hosts_by_group(self) -> dict[str, tuple[str, ...]]:
        """Every group, `all` and `ungrouped` too, with the names of its hosts and of those of all groups below it.

        Groups are in the order of the file. Hosts are in the order in which Ansible lists them: a group's own, those of
        its children, then a floor deeper. (Ansible takes the groups of one floor below the first by their addresses in
        memory, so anyhow; here they are in the order of the file.)
        """
        return {name: tuple(self._hosts_below(name)) for name in self.groups}

    def _hosts_below(self, name: str) -> dict[str, None]:
        walk, seen = [name], {name}
        for one in walk:  # grows while it is walked
            deeper = [child for child in self.groups[one].children if child in self.groups and child not in seen]
            walk += deeper
            seen.update(deeper)
        return dict.fromkeys(host for one in walk for host in self.groups[one].hosts)

    def _merge(self, groups: tuple[str, ...]) -> Variables:
        """Deeper wins, then higher priority, then the last by name. Mappings are replaced, not merged."""
        found: Variables = {}
        ranked = [self.groups[name] for name in (ALL, *groups)]
        for group in sorted(ranked, key=lambda group: (group.depth, group.priority, group.name)):
            found.update(group.vars)
        return found

    def _group(self, name: str, spot: Spot) -> Group:
        if name in self.groups:
            return self.groups[name]
        group = Group(name, spot)
        if len(self.groups) < MOST_GROUPS:
            self.groups[name] = group
        else:
            spot.complain(f"at most {MOST_GROUPS}", "too many groups")
        return group

    def _read_group(self, name: str, spot: Spot) -> Group:
        group = self._group(name, spot)
        if not name.isidentifier():
            spot.complain("letters, digits and _, no digit first (Ansible's rule)", f"the group name {name[:80]!r}")
        if spot.node.value is not None:
            for key, section in spot.entries("a group: a mapping with hosts, children or vars"):
                self._read_section(group, key, section)
        return group

    def _read_section(self, group: Group, key: str, spot: Spot) -> None:
        if key not in SECTIONS:
            where = "it under all.vars" if key in OURS or group.name in OURS else "one of hosts, children, vars"
            spot.complain(where, "an unknown key of a group", key, SECTIONS)
        elif spot.node.value is None:
            return
        elif key == "vars":
            self._read_variables(group.vars, spot)
            self._read_priority(group)
        else:
            self._read_members(group, key, _listed(spot))

    def _read_members(self, group: Group, key: str, spot: Spot) -> None:
        for name, member in spot.entries(f"a mapping of the names of {key}"):
            if key == "hosts":
                self._read_hosts(group, name, member)
            else:
                _join(group, self._read_group(name, member))

    def _read_variables(self, found: Variables, spot: Spot) -> None:
        for name, value in spot.entries("a mapping of variables"):
            if not name.isidentifier():
                value.complain("letters, digits and _, no digit first (Ansible's rule)", f"the name {name[:80]!r}")
            found[name] = value

    def _read_priority(self, group: Group) -> None:
        spot = group.vars.pop("ansible_group_priority", None)
        value = spot.node.value if spot else None
        if isinstance(value, int) and not isinstance(value, bool):
            group.priority = value
        elif spot:
            spot.complain("a whole number")

    def _read_hosts(self, group: Group, pattern: str, spot: Spot) -> None:
        try:
            names, port = expand(pattern)
        except BadPattern as error:
            spot.complain(error.allowed, error.found)
            return
        self._mentions += len(names)
        if len(self.hosts.keys() | set(names)) > MOST_HOSTS or self._mentions > MOST_MENTIONS:
            spot.complain(f"at most {MOST_HOSTS}, mentioned {MOST_MENTIONS} times", "too many hosts")
            return
        own: Variables = {}
        if spot.node.value is not None:
            self._read_variables(own, spot)
        for name in names:
            self._read_host(group, name, spot, port, own)

    def _read_host(self, group: Group, name: str, spot: Spot, port: int | None, own: Variables) -> None:
        member = self.hosts.get(name)
        if member is None:
            member = self.hosts[name] = Member(name, spot)
            if port is not None:  # only the first mention of a host can set its port, as in Ansible
                node = Node(port, spot.line, str(port))
                member.vars["ansible_port"] = Spot(node, f"{spot.where}.ansible_port", spot.line, spot.mistakes)
        member.groups[group.name] = None
        group.hosts[name] = None
        member.vars.update(own)

    def _finish(self) -> None:
        for group in self.groups.values():
            if not group.parents and group.name != ALL:
                _join(self.groups[ALL], group)
        self._settle_ungrouped()
        for name in self.groups.keys() & self.hosts.keys():
            self.hosts[name].spot.complain("another name for one of them", f"{name} is a group and a host")
        self._rank()

    def _settle_ungrouped(self) -> None:
        """In `ungrouped` are those that no other group has, whatever the file says."""
        loose = self.groups[UNGROUPED].hosts
        for name, member in self.hosts.items():
            if member.groups.keys() - {ALL, UNGROUPED}:
                loose.pop(name, None)
            else:
                loose[name] = None

    def _rank(self) -> None:
        """Depth is the longest way down from `all`; groups that are never reached contain each other."""
        below: dict[str, list[str]] = {name: [] for name in self.groups}
        waiting = {name: len(group.parents) for name, group in self.groups.items()}
        for name, group in self.groups.items():
            for parent in group.parents:
                below[parent].append(name)
        ready = [name for name, parents in waiting.items() if not parents]
        for name in ready:  # grows while it is walked
            self._above[name] = self._above_of(name)
            for child in below[name]:
                self.groups[child].depth = max(self.groups[child].depth, self.groups[name].depth + 1)
                waiting[child] -= 1
                if not waiting[child]:
                    ready.append(child)
        stuck = [name for name in self.groups if name not in self._above]
        if stuck:
            loop = cycle({name: [p for p in self.groups[name].parents if p in stuck] for name in stuck})
            told = " -> ".join(reversed(loop))
            self.groups[loop[0]].spot.complain("a group that is not inside of itself", f"groups in a circle: {told}")

    def _above_of(self, name: str) -> frozenset[str]:
        parents = self.groups[name].parents
        return frozenset(parents).union(*(self._above[parent] for parent in parents))

    def _ancestors(self, name: str) -> frozenset[str]:
        return self._above.get(name, frozenset())


def cycle(graph: Mapping[str, list[str]]) -> list[str]:
    """A way through the graph that ends where it began (a, b, a); empty when there is none."""
    done: set[str] = set()
    for start in graph:
        found = _walk(graph, start, done)
        if found:
            return found
    return []


def _walk(graph: Mapping[str, list[str]], start: str, done: set[str]) -> list[str]:
    way: dict[str, None] = {}
    todo = [(start, True)]
    while todo:
        name, entering = todo.pop()
        if not entering:
            way.pop(name)
            done.add(name)
        elif name in way:
            path = list(way)
            return [*path[path.index(name) :], name]
        elif name not in done:
            way[name] = None
            todo.append((name, False))
            todo.extend((following, True) for following in reversed(graph.get(name, ())))
    return []


def _join(parent: Group, child: Group) -> None:
    child.parents[parent.name] = None
    parent.children[child.name] = None


def _listed(spot: Spot) -> Spot:
    """A lone name for a mapping with that name, which Ansible allows."""
    name = spot.node.value
    if not isinstance(name, str):
        return spot
    node = Node({name: Node(None, spot.line)}, spot.line)
    node.lines[name] = spot.line
    return Spot(node, spot.where, spot.line, spot.mistakes)
