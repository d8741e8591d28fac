"""The one door to PyYAML: bytes become nodes that know their line.

Knows: YAML 1.1 as Ansible reads it, and how a document is kept from being a bomb.
Must not know: what the keys of an inventory mean.

The document is built from events, in one pass: so depth and size are bounded before anything is expanded, and
duplicate keys, which PyYAML drops silently, are seen.
"""

from __future__ import annotations

import codecs
from typing import Any, NoReturn

import yaml

from ops.inventory.mistakes import Mistakes
from ops.inventory.nodes import Node, Value

MOST_NODES = 100_000  # with every alias expanded
DEEPEST = 64
MERGE = "<<"
TAG = "tag:yaml.org,2002:"
SCALARS = frozenset({"str", "int", "float", "bool", "null"})

# libyaml is ten times faster; a PyYAML built without it has only the pure one.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_CONSTRUCTOR = yaml.constructor.SafeConstructor()
_CONVERT: dict[str, Any] = {
    "int": _CONSTRUCTOR.construct_yaml_int,
    "float": _CONSTRUCTOR.construct_yaml_float,
    "bool": _CONSTRUCTOR.construct_yaml_bool,
    "null": lambda _: None,
}

# What the two parsers say, in the words of somebody who did not write a parser.
_PLAIN_WORDS = {
    "mapping values are not allowed": "a ':' where none can be: check the indentation, or quote the text",
    "cannot start any token": "a tab, @, ` or % where a value begins: use spaces, or quote the text",
    "could not find expected ':'": "a key without its ':'",
    "did not find expected key": "a line that does not fit its indentation, or a missing ',' or quote",
    "expected <block end>": "a line that does not fit its indentation, or a missing ',' or quote",
    "did not find expected '-' indicator": "a line that does not fit the indentation of its list",
    "unexpected end of stream": "a quote that is never closed",
    "did not find expected ',' or": "a '[' or '{' that is not closed, or a missing ','",
    "expected ',' or": "a '[' or '{' that is not closed, or a missing ','",
    "found a tab character": "a tab: indent with spaces",
    "undefined tag handle": "a tag ('!...'): only plain values are allowed",
}


_TOO_DEEP = ("lists and mappings nested too deeply", f"at most {DEEPEST} levels")


class _Unreadable(Exception):
    """Reading cannot go on; the mistake is already told."""


def read_document(content: bytes, mistakes: Mistakes) -> Node | None:
    """The document's root; None when it cannot be read at all, with the reason in `mistakes`."""
    text = _decoded(content, mistakes)
    if text is None:
        return None
    try:
        return _Builder(_LOADER(text), mistakes).document()
    except _Unreadable:
        return None
    except yaml.reader.ReaderError:
        _unprintable(text, mistakes)
    except yaml.MarkedYAMLError as error:
        _syntax(error, mistakes)
    return None


def _decoded(content: bytes, mistakes: Mistakes) -> str | None:
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        mistakes.add(line, "", f"the byte 0x{content[error.start]:02x}, which is not UTF-8", "a file saved as UTF-8")
        return None


def _unprintable(text: str, mistakes: Mistakes) -> None:
    match = yaml.reader.Reader.NON_PRINTABLE.search(text)
    start = match.start() if match else 0
    found = f"the control character U+{ord(text[start]):04X}" if match else "a control character"
    mistakes.add(text.count("\n", 0, start) + 1, "", found, "none, or one escaped in double quotes")


def _syntax(error: yaml.MarkedYAMLError, mistakes: Mistakes) -> None:
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "not YAML"
    if "maximum nesting depth" in problem:  # newer builds of libyaml read ahead, with a limit of their own
        mistakes.add(mark.line + 1 if mark else 1, "", *_TOO_DEEP)
        return
    words = next((words for sign, words in _PLAIN_WORDS.items() if sign in problem), problem)
    begun = error.context_mark
    since = f" (in what begins on line {begun.line + 1})" if begun and mark and begun.line != mark.line else ""
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    mistakes.add(line, f"column {column}", words + since, "")


class _Builder:
    """Events to nodes. Recursion is as deep as the document, which is bounded."""

    def __init__(self, loader: Any, mistakes: Mistakes) -> None:
        self._next = loader.get_event
        self._resolvers = loader.yaml_implicit_resolvers
        self._mistakes = mistakes
        self._anchors: dict[str, Node | None] = {}  # None: still being read
        self._values: dict[str, Value] = {}
        self._count = 0

    def document(self) -> Node:
        self._next()  # the stream's start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            self._stop(1, "nothing but white space or comments", "a mapping with `all`")
        root = self._node(self._next(), 1)
        self._next()  # the document's end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            self._stop(event.start_mark.line + 1, "a second document", "one document, without '---' inside")
        return root

    def _node(self, event: Any, depth: int) -> Node:
        self._spend(1, event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > DEEPEST:
            self._too_deep(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            node = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        name = event.anchor
        if name not in self._anchors:
            self._stop(event.start_mark.line + 1, f"*{name}, which nothing before it is called", f"an anchor &{name}")
        node = self._anchors[name]
        if node is None:
            self._stop(event.start_mark.line + 1, f"*{name} inside of &{name} itself", "no circle")
        return node

    def _scalar(self, event: Any) -> Node:
        text, line = event.value, event.start_mark.line + 1
        if not text.isascii() and not _encodable(text):
            self._mistakes.add(line, "", "half of a surrogate pair", "a whole character")
        if event.tag not in (None, "!"):
            return Node(self._tagged(event, text, line), line, text)
        return Node(self._plain(text, line) if event.implicit[0] else text, line, text)

    def _plain(self, text: str, line: int) -> Value:
        if text not in self._values:
            self._values[text] = self._converted(self._kind(text), text, line)
        return self._values[text]

    def _kind(self, text: str) -> str:
        for tag, pattern in self._resolvers.get(text[:1], ()):
            if pattern.match(text):
                return str(tag.rpartition(":")[2])
        return "str"

    def _tagged(self, event: Any, text: str, line: int) -> Value:
        kind = event.tag.rpartition(":")[2]
        if event.tag.startswith(TAG) and kind in SCALARS:
            return self._converted(kind, text, line)
        self._foreign_tag(event)
        return text

    def _converted(self, kind: str, text: str, line: int) -> Value:
        """Times stay as written: nothing here wants a date, and Ansible shows the same text."""
        convert = _CONVERT.get(kind)
        if convert is None:
            return text
        try:
            value: Value = convert(yaml.ScalarNode(TAG + kind, text))
            return value
        except (ValueError, ArithmeticError, LookupError):
            found = f"not a {kind} that can be read: {text[:40]!r}"
            self._mistakes.add(line, "", found, "one that can, or quotes if it is a text")
            return text

    def _sequence(self, event: Any, depth: int) -> Node:
        self._container_tag(event, "seq")
        items: list[Node] = []
        while not isinstance(child := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(child, depth + 1))
        return self._measured(Node(items, event.start_mark.line + 1), items, event)

    def _mapping(self, event: Any, depth: int) -> Node:
        self._container_tag(event, "map")
        own: dict[Any, Node] = {}
        node = Node(own, event.start_mark.line + 1)
        merged: list[Node] = []
        while not isinstance(child := self._next(), yaml.MappingEndEvent):
            key, line = self._node(child, depth + 1), child.start_mark.line + 1
            value = self._node(self._next(), depth + 1)
            if key.value == MERGE and isinstance(child, yaml.ScalarEvent) and child.implicit[0]:
                if merged:
                    self._mistakes.add(line, MERGE, "given twice", "one with a list")
                merged += self._merged(value, line, child)
            else:
                self._enter(node, key, value, line)
        if merged:
            _merge(node, merged)
        assert isinstance(node.value, dict)
        return self._measured(node, node.value.values(), event)

    def _enter(self, node: Node, key: Node, value: Node, line: int) -> None:
        assert isinstance(node.value, dict)
        name = key.value
        if isinstance(name, (list, dict)):
            self._mistakes.add(line, "", f"{key.describe()} as a key", "a text")
            return
        if name in node.value:
            earlier = node.lines[name]
            self._mistakes.add(line, str(name), f"given twice, on line {earlier} and on line {line}", "one of them")
        node.value[name] = value
        node.lines[name] = line

    def _merged(self, value: Node, line: int, event: Any) -> list[Node]:
        sources = value.value if isinstance(value.value, list) else [value]
        mappings = [source for source in sources if isinstance(source.value, dict)]
        if len(mappings) < len(sources):
            self._mistakes.add(line, MERGE, value.describe(), "a mapping, or a list of mappings")
        self._spend(sum(len(source.lines) for source in mappings), event)
        return mappings

    def _measured(self, node: Node, children: Any, event: Any) -> Node:
        for child in children:
            node.size += child.size
            if child.height >= node.height:
                node.height = child.height + 1
        if node.size > MOST_NODES:
            self._too_big(event)
        if node.height > DEEPEST:
            self._too_deep(event)
        return node

    def _spend(self, nodes: int, event: Any) -> None:
        self._count += nodes
        if self._count > MOST_NODES:
            self._too_big(event)

    def _container_tag(self, event: Any, kind: str) -> None:
        if event.tag not in (None, "!", TAG + kind):
            self._foreign_tag(event)

    def _foreign_tag(self, event: Any) -> None:
        tag = event.tag.replace(TAG, "!!")[:40]
        allowed = "plain values only: a secret belongs in an env_file" if tag == "!vault" else "plain values only"
        self._mistakes.add(event.start_mark.line + 1, "", f"the tag {tag}", allowed)

    def _too_deep(self, event: Any) -> NoReturn:
        self._stop(event.start_mark.line + 1, *_TOO_DEEP)

    def _too_big(self, event: Any) -> NoReturn:
        self._stop(event.start_mark.line + 1, "too many values, aliases expanded", f"at most {MOST_NODES}")

    def _stop(self, line: int, found: str, allowed: str) -> NoReturn:
        self._mistakes.add(line, "", found, allowed)
        raise _Unreadable


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _merge(node: Node, sources: list[Node]) -> None:
    """YAML's `<<`: own keys win, then the earlier source; merged keys come first, as PyYAML orders them."""
    own, lines = node.value, node.lines
    assert isinstance(own, dict)
    value: dict[Any, Node] = {}
    merged_lines: dict[Any, int] = {}
    for source in reversed(sources):
        assert isinstance(source.value, dict)
        value.update(source.value)
        merged_lines.update(source.lines)
    value.update(own)
    node.value, node.lines = value, {**merged_lines, **lines}
