"""An inventory that is wrong: each mistake is told with its line and key, and all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.errors import InventoryError
from ops.inventory import loads

SERVICE = "all:\n vars:\n  services:\n   web:\n    command: serve\n    port: 80\n"


def mistakes(text: str | bytes) -> list[str]:
    content = text if isinstance(text, bytes) else text.encode()
    with pytest.raises(InventoryError) as caught:
        loads(content, Path("/etc/ops/inventory.yaml"))
    assert "/etc/ops/inventory.yaml" in caught.value.lines()[0]
    return caught.value.mistakes or [caught.value.seen]


def the_mistake(text: str | bytes) -> str:
    (found,) = mistakes(text)
    return found


def of_service(line: str) -> str:
    """The one mistake that a seventh line in a good service makes."""
    found = the_mistake(f"{SERVICE}    {line}\n")
    assert found.startswith("inventory.yaml:7: web."), found
    return found.removeprefix("inventory.yaml:7: ")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("prt: 5", "did you mean 'port'?"),
        ("Critical: true", "did you mean 'critical'?"),
        ("critical: 'yes'", "web.critical: the text 'yes'; wanted true or false"),
        ("cwd: on", "web.cwd: the boolean true (written on); wanted a text: quote it"),
        ("cwd:", "web.cwd: nothing; wanted a text"),
        ("cwd: ''", "web.cwd: an empty text"),
        ("cwd: '{{ home }}'", "web.cwd: a template"),
        ('cwd: "a\\0b"', "web.cwd: a NUL character"),
        ("start_timeout: 22:30", "web.start_timeout: 22:30, which YAML reads as 1350"),
        ("start_timeout: 0", "web.start_timeout: the number 0; wanted a number of seconds, more than 0"),
        ("grace: -1", "web.grace: the number -1; wanted a number of seconds, 0 or more"),
        ("grace: .nan", "web.grace: the number .nan"),
        ("grace: .inf", "web.grace: the number .inf"),
        ("grace: 5s", "web.grace: the text '5s'; wanted a number of seconds"),
        ("grace: true", "web.grace: the boolean true"),
        ("attempts: 1.5", "web.attempts: the number 1.5; wanted a whole number"),
        ("attempts: 010", "web.attempts: 010, which YAML reads as 8"),
        ("attempts: yes", "web.attempts: the boolean true (written yes)"),
        ("log_size: 10", "web.log_size: the number 10; wanted bytes"),
        ("max_rss: 512 parsecs", "web.max_rss: the text '512 parsecs'; wanted bytes"),
        ("stop_signal: SIGTREM", "did you mean 'TERM'?"),
        ("stop_signal: STOP", "wanted a signal that ends a process"),
        ("stop_signal: 15", "web.stop_signal: the number 15"),
        ("on_need_restart: restrat", "leave or restart; did you mean 'restart'?"),
        ("env: {OPS_RUN: x}", "web.env.OPS_RUN: a name by which the toolkit"),
        ("env: {1A: x}", "web.env.1A: the name '1A'"),
        ("env: {A: no}", "web.env.A: the boolean false (written no); wanted a text or a number: quote it"),
        ("env: {A: }", "web.env.A: nothing"),
        ("env: {A: 0777}", "web.env.A: 0777, which YAML reads as 511"),
        ("env: [A=b]", "web.env: a list; wanted a mapping"),
        ("needs: pg-api", "web.needs: the text 'pg-api'; wanted a list of names"),
        ("needs: [wbe]", "web.needs[0]: no service wbe; wanted one of web; did you mean 'web'?"),
        ("needs: [web]", "web.needs[0]: web itself; wanted another service"),
        ("health: {http: /}", "web.health: a mapping; wanted a list of probes"),
        ("health: [/]", "web.health[0]: the text '/'; wanted a mapping"),
        ("health: [{}]", "web.health[0]: none of http, tcp, command"),
        ("health: [{http: /, tcp: 1}]", "web.health[0]: http and tcp; wanted exactly one"),
        ("health: [{tcp: 1, htp: /}]", "did you mean 'http'?"),
        ("health: [{http: health}]", "web.health[0].http: the text 'health'; wanted a path that begins with \"/\""),
        ("health: [{http: 'ftp://x/'}]", "web.health[0].http"),
        ("health: [{http: 'http://x:y/'}]", "web.health[0].http"),
        ("health: [{http: 'http://[x/'}]", "web.health[0].http"),
        ("health: [{http: '/a b'}]", "web.health[0].http"),
        ("health: [{tcp: 65536}]", "web.health[0].tcp: the number 65536; wanted a whole number from 1 to 65535"),
        ("health: [{tcp: 1, status: 200}]", "a key for http, but this probe asks by tcp; wanted it on a probe by http"),
        ("health: [{http: /, method: PSOT}]", "did you mean 'POST'?"),
        ("health: [{http: /, status: 99}]", "web.health[0].status: the number 99"),
        ("health: [{http: /, status: 300-200}]", "web.health[0].status: the text '300-200'"),
        ("health: [{http: /, status: []}]", "web.health[0].status: an empty list"),
        ("health: [{http: /, body: '~('}]", "web.health[0].body: one that does not compile"),
        ("health: [{http: /, body: '~'}]", "web.health[0].body: an empty text"),
        ("health: [{http: /, json: healthy}]", "web.health[0].json: the text 'healthy'; wanted a mapping or a list"),
        (
            "health: [{http: /, json: {rate: .nan}}]",
            "web.health[0].json: nan, which it has not; wanted a number that JSON",
        ),
        ("health: [{http: /, json: [-.inf]}]", "web.health[0].json: -inf, which it has not; wanted a number that JSON"),
        ("health: [{http: /, json: {1: a}}]", "web.health[0].json.1: the key 1"),
        ("health: [{http: /, header: {'a b': c}}]", "web.health[0].header.a b: the name 'a b'"),
        ("health: [{http: /, every: 0}]", "web.health[0].every: the number 0"),
        ("health: [{command: []}]", "web.health[0].command: an empty command"),
    ],
)
def test_a_mistake_in_a_service(line: str, said: str) -> None:
    assert said in of_service(line)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("{}", "web: no command"),
        ("", "web: nothing; wanted a mapping with at least a command"),
        ("[]", "web: a list; wanted a mapping with at least a command"),
        ("{command: ''}", "web.command: an empty command"),
        ("{command: [], port: 5}", "web.command: an empty command"),
        ('{command: "node \'index.js"}', "web.command: a text that cannot be split (No closing quotation)"),
        ("{command: ['x', {port}], port: 5}", 'web.command[1]: a mapping; wanted a text: quote it, "{port}"'),
        ("{command: ['x', '{port}']}", "web.command: {port} in a service without a port; wanted a port for it"),
        ("{command: x, port: 0}", "web.port: the number 0; wanted a whole number from 1 to 65535"),
        ("{command: x, port: '80'}", "web.port: the text '80'"),
        ("{command: x, health: [{http: /}]}", "web.health[0].http: a path, but the service has no port"),
    ],
)
def test_a_service_that_is_none(body: str, said: str) -> None:
    assert said in the_mistake(f"all:\n vars:\n  services:\n   web: {body}\n")


@pytest.mark.parametrize("name", ["Web", "-web", "a b", "a/b", "x" * 65, "..", "all", "monitor", "alerts"])
def test_names_that_cannot_be_had(name: str) -> None:
    assert "the name " in the_mistake(f"all: {{vars: {{services: {{'{name}': {{command: x}}}}}}}}")


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ("ops: {nmae: x}", "ops.nmae: an unknown key; wanted one of name,"),
        ("ops: {name: A}", "ops.name: the text 'A'; wanted lower-case"),
        ("ops: {label: a b}", "ops.label: the text 'a b'"),
        ("ops: {alert_command: {a: b}}", "ops.alert_command: a mapping; wanted a list of words, or a text"),
        ("ops: {start_timeout: 5}", "ops.start_timeout: an unknown key"),
        ("ops: []", "ops: a list; wanted a mapping"),
        ("services_enabled: [wbe]", "services_enabled[0]: no service wbe; wanted one of web; did you mean 'web'?"),
        ("services_enabled: [web, web]", "services_enabled[1]: web again; wanted each name once"),
        ("services_enabled: web", "services_enabled: the text 'web'; wanted a list of names"),
        ("ops_root: here", "all.vars.ops_root: the text 'here'; wanted an absolute path"),
        ("ops_root: '{{ x }}'", "all.vars.ops_root: a template"),
        ("ansible_connection: docker", "all.vars.ansible_connection: the text 'docker'; wanted local or ssh"),
        ("ansible_port: ssh", "all.vars.ansible_port: the text 'ssh'; wanted a whole number from 1 to 65535"),
        ("ansible_ssh_port: 0", "all.vars.ansible_ssh_port: the number 0; wanted a whole number from 1 to 65535"),
        ("ansible_ssh_host: 5", "all.vars.ansible_ssh_host: the number 5; wanted a text"),
        ("ansible_ssh_user: ''", "all.vars.ansible_ssh_user: an empty text; wanted a text that is not empty"),
        ("ansible_private_key_file: []", "all.vars.ansible_private_key_file: a list; wanted a text"),
        ("ansible_become_user: '{{ x }}'", "all.vars.ansible_become_user: a template"),
        ("ansible_become_method: su", "all.vars.ansible_become_method: the text 'su'; wanted sudo, the only way"),
        ("ansible_timeout: soon", "all.vars.ansible_timeout: the text 'soon'; wanted a number of seconds"),
        ("ansible_ssh_timeout: 0", "all.vars.ansible_ssh_timeout: the number 0; wanted a number of seconds, more"),
        ("ansible_ssh_common_args: [-4]", "all.vars.ansible_ssh_common_args: a list; wanted a text such as '-o Proxy"),
        ("ansible_ssh_extra_args: -o 'a", "all.vars.ansible_ssh_extra_args: a text that cannot be split"),
        ("foo-bar: 1", "all.vars.foo-bar: the name 'foo-bar'; wanted letters, digits and _"),
        ("5: 1", "all.vars.5: the key 5; wanted a text as the key"),
    ],
)
def test_a_mistake_beside_the_services(variables: str, said: str) -> None:
    assert said in the_mistake(f"all: {{vars: {{services: {{web: {{command: x}}}}, {variables}}}}}")


@pytest.mark.parametrize(
    ("rest", "said"),
    [
        (" hosts: {'web[3:1]': }", "all.hosts.web[3:1]: [3:1]; wanted a range such as"),
        (" hosts: {'web[01:3]': }", "as many digits"),
        (" hosts: {'web[1:3:0]': }", "[1:3:0]; wanted a range such as"),
        (" hosts: {'web[1:99999]': }", "more than 5000 hosts"),
        (" hosts: {'a[1:999]b[1:999]': }", "more than 5000 hosts"),
        (" hosts: {'a b': }", "'a b'; wanted letters, digits"),
        (" hosts: {'a:70000': }", "port 70000; wanted 1 to 65535"),
        (" hosts: [a]", "all.hosts: a list; wanted a mapping of the names of hosts"),
        (" hosts: {a: 5}", "all.hosts.a: the number 5; wanted a mapping of variables"),
        (" host: {a: }", "an unknown key of a group; wanted one of hosts, children, vars; did you mean 'hosts'?"),
        (" children: {my-group: }", "the group name 'my-group'"),
        (" children: {g: {children: {h: {children: {g: }}}}}", "groups in a circle: "),
        (" children: {g: {hosts: {g: }}}", "g is a group and a host"),
        (" children: {g: {vars: {ansible_group_priority: high}}}", "ansible_group_priority: the text 'high'"),
        ("".join(f"g{i}:\n" for i in range(999)), "too many groups"),
        ("".join(f"g{i}: {{hosts: {{'h[1:5000]': }}}}\n" for i in range(11)), "too many hosts"),
        ("services: {web: {}}", "services.web: an unknown key of a group; wanted it under all.vars"),
        ("services_enabled: [web]", "services_enabled: a list; wanted a group"),
    ],
)
def test_a_mistake_among_groups_and_hosts(rest: str, said: str) -> None:
    assert said in the_mistake(f"all:\n vars: {{services: {{web: {{command: x}}}}}}\n{rest}\n")


def test_services_that_do_not_go_together() -> None:
    a, b, c = "a: {command: x, port: 1, log: /l}", "b: {command: x, port: 1}", "c: {command: x, log: /l}"
    text = f"all:\n vars:\n  services:\n   {a}\n   {b}\n   {c}\n"
    assert mistakes(text) == [
        "inventory.yaml:5: b.port: 1, which a has; wanted a port of its own",
        "inventory.yaml:6: c.log: /l, which a has; wanted a log of its own",
    ]
    loads(f"{text}  services_enabled: [b, c]\n".encode(), Path("i.yaml"))


def test_needs_in_a_circle() -> None:
    bodies = "".join(f"   {name}: {{command: x, needs: [{need}]}}\n" for name, need in zip("abc", "bca", strict=True))
    assert "a circle: a -> b -> c -> a" in the_mistake(f"all:\n vars:\n  services:\n{bodies}")


def test_a_need_that_is_not_enabled_on_the_host() -> None:
    services = "{a: {command: x, needs: [b]}, b: {command: x}}"
    text = f"all:\n vars: {{services: {services}}}\n hosts: {{h: {{services_enabled: [a]}}}}"
    assert "a.needs[0]: b, which is not enabled where a is" in the_mistake(text)


def test_what_no_host_uses_is_read_too() -> None:
    text = "all:\n vars: {services: {a: {comand: x}}}\n hosts: {h: {services: {a: {command: x}}}}"
    assert any("did you mean 'command'?" in told for told in mistakes(text))


def test_what_hosts_share_is_told_once() -> None:
    text = "all:\n vars: {services: {a: {command: x, port: 0}}}\n hosts: {'h[1:50]': }"
    assert "a.port" in the_mistake(text)


def test_all_at_once_in_the_order_of_the_file() -> None:
    text = SERVICE + "    grace: -1\n    prt: 5\n    cwd: on\n  ops: {intervall: 5}\n hosts: {h: {ops_root: x}}\n"
    assert [told.split(":")[1] for told in mistakes(text)] == ["7", "8", "9", "10", "11"]


@pytest.mark.parametrize(
    "key",
    ["ansible_password", "ansible_ssh_pass", "ansible_become_password", "ansible_become_pass", "ansible_sudo_pass",
     "ansible_su_pass", "ansible_ssh_password", "ansible_paramiko_password", "ansible_private_key_passphrase",
     "ansible_ssh_private_key_passphrase"],
)  # fmt: skip
@pytest.mark.parametrize("place", ["vars", "host", "deep"])
def test_passwords_are_refused_and_not_repeated(key: str, place: str) -> None:
    secret = f"{key}: hunter2"
    variables = {"vars": f", {secret}", "host": "", "deep": f", x: [{{{secret}}}]"}[place]
    hosts = f"hosts: {{h: {{{secret if place == 'host' else ''}}}}}"
    found = the_mistake(f"all:\n vars: {{services: {{web: {{command: x}}}}{variables}}}\n {hosts}")
    assert f"{key}: a password" in found
    assert "hunter2" not in found


@pytest.mark.parametrize("key", ["ansible_private_key", "ansible_ssh_private_key"])
def test_keys_in_the_inventory_are_refused_and_not_repeated(key: str) -> None:
    found = the_mistake(f"all: {{vars: {{services: {{web: {{command: x}}}}, {key}: BEGIN OPENSSH}}}}")
    assert f"{key}: a private key; wanted none: use keys in files of their own" in found
    assert "OPENSSH" not in found
