"""Which topics a connector writes, decided from its settings.

Rules this file owns: a prefix alone says nothing, as two connectors may share one and a router may take it
away; names are compared as Debezium makes them (a character that Kafka refuses becomes `_`); where the
settings can't tell, the answer is unknown, never no.

Source: Debezium 3.6, `table.include.list` (anchored regular expressions, without regard to case),
`topic.delimiter`, `ByLogicalTableRouter`, `EventRouter`; Kafka 4.3 `RegexRouter` (matches whole names).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

TOPIC_PREFIX = "topic.prefix"
_DELIMITER = "topic.delimiter"
_STRATEGY = "topic.naming.strategy"
_LISTS = ("table", "schema", "database")
CAPTURE_SETTINGS = (
    TOPIC_PREFIX,
    _DELIMITER,
    _STRATEGY,
    *(f"{part}.{kind}.list" for part in _LISTS for kind in ("include", "exclude")),
)
ROUTER_SETTINGS = {
    "regex",
    "replacement",
    "topic.regex",
    "topic.replacement",
    "route.topic.replacement",
    "predicate",
}
_PLAIN_NAME = re.compile(r"(?:[\w$ -]|\\?\.|\\[^\w])+")
_ROUTED_BY = "${routedByValue}"
_OTHER_ROUTER = re.compile(r"[Rr]out|RenameTopic|TopicName")


def captures(settings: Mapping[str, str], topic: str) -> bool | None:
    """Say whether a connector with these settings writes the topic; None when they can't tell."""
    prefix = settings.get(TOPIC_PREFIX)
    if prefix is None:
        return False
    routes = list(_routes(settings))
    if any(route is None for route in routes):
        return None
    named = _named_tables(settings)
    start = prefix + settings.get(_DELIMITER, ".")
    if named is not None:
        sent = {start + _sanitized(name, settings) for name in named}
        if not routes:  # the list takes no notice of case, the topic has the database's
            return topic.lower() in {one.lower() for one in sent}
        return any(_arrives(one, routes, topic) for one in sent)
    direct = topic.startswith(start) and _is_included(settings, topic.removeprefix(start))
    if not routes:
        return direct
    # Any name might become the topic; only one that stays as it is can be told.
    return True if direct and _arrives(topic, routes, topic) else None


class _Route:
    """A router that renames the topics its regular expression matches."""

    def __init__(self, regex: str, replacement: str, *, is_sure: bool) -> None:
        self._regex = re.compile(regex)
        self._replacement = _python_replacement(replacement)
        self._is_sure = is_sure

    def names(self, topic: str) -> list[str]:
        """What the topic may be called behind the router."""
        if self._regex.fullmatch(topic) is None:
            return [topic]
        renamed = self._regex.sub(self._replacement, topic, count=1)
        return [renamed] if self._is_sure else [topic, renamed]


class _OutboxRouter:
    """The router of outbox events: its topics have a name of their own, with a value of the row in it."""

    def __init__(self, replacement: str) -> None:
        parts = (re.escape(part) for part in replacement.split(_ROUTED_BY))
        self._pattern = re.compile(".+".join(parts))

    def may_write(self, topic: str) -> bool:
        """Whether the topic can be one of an outbox's."""
        return self._pattern.fullmatch(topic) is not None


def _routes(settings: Mapping[str, str]) -> Iterator[_Route | _OutboxRouter | None]:
    """The routers in their order; None for one whose names can't be told."""
    for name in filter(None, (part.strip() for part in settings.get("transforms", "").split(","))):
        own = {
            key.removeprefix(f"transforms.{name}."): value
            for key, value in settings.items()
            if key.startswith(f"transforms.{name}.")
        }
        kind = own.get("type", "").rpartition(".")[2].partition("$")[0]
        if kind in ("RegexRouter", "ByLogicalTableRouter"):
            topic = "topic." if kind == "ByLogicalTableRouter" else ""
            regex, to = own.get(f"{topic}regex"), own.get(f"{topic}replacement")
            yield None if regex is None or to is None else _route(regex, to, "predicate" in own)
        elif kind == "EventRouter":
            yield _OutboxRouter(own.get("route.topic.replacement", f"outbox.event.{_ROUTED_BY}"))
        elif _OTHER_ROUTER.search(kind):
            yield None
    if _STRATEGY in settings and not settings[_STRATEGY].endswith(
        (".SchemaTopicNamingStrategy", ".DefaultTopicNamingStrategy")
    ):
        yield None


def _route(regex: str, replacement: str, has_predicate: bool) -> _Route | None:
    try:
        return _Route(regex, replacement, is_sure=not has_predicate)
    except re.error:
        return None  # Java knows forms that Python doesn't


def _python_replacement(java: str) -> str:
    """`$1` and `${name}` as Python writes them."""
    escaped = java.replace("\\", "\\\\")
    return re.sub(r"\$(?:\{(\w+)\}|(\d+))", lambda m: rf"\g<{m[1] or m[2]}>", escaped)


def _arrives(sent: str, routes: Sequence[_Route | _OutboxRouter | None], topic: str) -> bool:
    names = [sent]
    for route in routes:
        if isinstance(route, _OutboxRouter):
            if route.may_write(topic):
                return True
        elif route is not None:
            try:
                names = [renamed for name in names for renamed in route.names(name)]
            except (re.error, IndexError):
                return False
    return topic in names


def _named_tables(settings: Mapping[str, str]) -> list[str] | None:
    """The tables of the include list when it names each as it is; None for none or for patterns."""
    given = [part.strip() for part in settings.get("table.include.list", "").split(",")]
    given = [part for part in given if part]
    is_whole = ".sqlserver." not in settings.get("connector.class", "")
    if not given or not is_whole or not all(_PLAIN_NAME.fullmatch(part) for part in given):
        return None
    return [re.sub(r"\\(.)", r"\1", part) for part in given]


def _sanitized(name: str, settings: Mapping[str, str]) -> str:
    delimiter = settings.get(_DELIMITER, ".")
    return re.sub(r"[^A-Za-z0-9._-]", "_", name.replace(".", delimiter))


def _is_included(settings: Mapping[str, str], rest: str) -> bool:
    """Whether the include and exclude lists let a table through whose topic ends so."""
    parts = rest.replace(settings.get(_DELIMITER, "."), ".").split(".")
    # SQL Server's topics begin with the database, and its lists with the schema.
    names = {
        "table": (".".join(parts), ".".join(parts[-2:])),
        "schema": (parts[-2] if len(parts) > 1 else "",),
        "database": (parts[0],),
    }
    for part, said in names.items():
        included = settings.get(f"{part}.include.list", "")
        excluded = settings.get(f"{part}.exclude.list", "")
        if included and not any(_matches(included, one) for one in said):
            return False
        if excluded and any(_matches(excluded, one) for one in said):
            return False
    return True


def _matches(patterns: str, name: str) -> bool:
    for pattern in (part.strip() for part in patterns.split(",")):
        try:
            if re.fullmatch(pattern, name, re.IGNORECASE):
                return True
        except re.error:
            return (
                True  # Java knows forms that Python doesn't: nothing is held against the connector
            )
    return False
