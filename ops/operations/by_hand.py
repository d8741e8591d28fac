"""Whether a process that nobody recorded is the declared service, started by hand: command, folder and user.

Knows: how the same command looks in the process table. Must not know: ports, records, what is done about it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from ops.host import process
from ops.memory.state import State
from ops.model import Host, Service
from ops.operations import environment


def is_declared(pid: int, service: Service, host: Host, state: State) -> bool:
    """Whether a process has the declared command, folder and user, as one started by hand would."""
    if process.owner(pid) != os.geteuid() or process.variable(pid, environment.MARKER):
        return False
    words = process.command_line(pid)
    declared = service.argv(environment.python(environment.frozen(state, service)))
    if not words or not same_command(words, declared, process.program(pid)):
        return False
    cwd = process.working_folder(pid)
    return cwd is not None and os.path.realpath(cwd) == os.path.realpath(environment.folder(host, service))


def same_command(words: Sequence[str], declared: Sequence[str], executable: str | None = None) -> bool:
    """Whether a command line is the declared command: `python` or `/usr/bin/python3.11` for the same program,
    a script with its interpreter in front (#!), or the one-line title that npm gives itself."""
    if len(words) == 1 and " " in words[0]:
        words = words[0].split() or words  # a title is no shell's text: a quote or backslash in it means nothing
        declared = _npm_title(declared)
    if list(words[1:]) == list(declared[1:]) and _same_program(words[0], declared[0], executable):
        return True
    return len(words) > 1 and list(words[2:]) == list(declared[1:]) and _same_name(words[1], declared[0])


def _npm_title(declared: Sequence[str]) -> Sequence[str]:
    """The words npm titles itself with when it runs this: npx is `npm exec`, and npm's own options and the `--`
    that ends them are left out (for npx the first word that is no option ends them as well)."""
    program, rest = declared[0], list(declared[1:])
    npx = os.path.basename(program) == "npx"
    if not npx and os.path.basename(program) != "npm":
        return declared
    ends = [place for place, word in enumerate(rest) if word == "--" or (npx and not word.startswith("-"))]
    end = ends[0] if ends else len(rest)
    after = rest[end + 1 :] if rest[end : end + 1] == ["--"] else rest[end:]
    before = [word for word in rest[:end] if not word.startswith("-")]
    return ["npm", "exec", *after] if npx else [program, *before, *after]


def _same_program(word: str, declared: str, executable: str | None) -> bool:
    if _same_name(word, declared):
        return True
    if not executable:
        return False

    import shutil

    path = declared if "/" in declared else shutil.which(declared) or declared
    return os.path.realpath(path) == os.path.realpath(executable)


def _same_name(word: str, declared: str) -> bool:
    return word == declared or os.path.basename(word) == os.path.basename(declared)
