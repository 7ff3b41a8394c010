"""Which topics a connector writes, as far as its settings tell."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc_sink.debezium.captures import captures

REGEX = "org.apache.kafka.connect.transforms.RegexRouter"
LOGICAL = "io.debezium.transforms.ByLogicalTableRouter"


def routed(
    kind: str = REGEX, regex: str = r"[^.]+\.[^.]+\.(.*)", to: str = "cdc.$1"
) -> dict[str, str]:
    topic = "topic." if kind == LOGICAL else ""
    return {
        "transforms": "unwrap,route",
        "transforms.unwrap.type": "io.debezium.transforms.ExtractNewRecordState",
        "transforms.route.type": kind,
        f"transforms.route.{topic}regex": regex,
        f"transforms.route.{topic}replacement": to,
    }


@pytest.mark.parametrize(
    ("settings", "topic", "expected"),
    [
        ({}, "shop.public.items", True),
        ({}, "shop2.public.items", False),
        ({}, "shop.public", True),
        # Two connectors with one prefix are told by what they capture.
        ({"table.include.list": "public.items,public.orders"}, "shop.public.items", True),
        ({"table.include.list": "public.items,public.orders"}, "shop.public.other", False),
        ({"table.include.list": r"public\.items"}, "shop.public.items", True),
        ({"table.include.list": "PUBLIC.Items"}, "shop.public.items", True),
        ({"table.include.list": r"public\.i.*"}, "shop.public.items", True),
        ({"table.include.list": r"public\.i.*"}, "shop.public.orders", False),
        ({"table.include.list": "public.größe"}, "shop.public.gr__e", True),
        ({"table.exclude.list": r"public\.items"}, "shop.public.items", False),
        ({"schema.include.list": "sales"}, "shop.public.items", False),
        ({"schema.exclude.list": "public"}, "shop.public.items", False),
        ({"database.include.list": "inv"}, "shop.inv.items", True),
        ({"database.include.list": "inv"}, "shop.other.items", False),
        ({"topic.delimiter": "_", "table.include.list": "public.items"}, "shop_public_items", True),
        (
            {"connector.class": "io.debezium.connector.sqlserver.X", "table.include.list": "dbo.t"},
            "shop.db.dbo.t",
            True,
        ),
        # Java's forms that Python lacks are held against nobody.
        ({"table.include.list": r"public\.[\p{Alpha}&&[^x]]+"}, "shop.public.items", True),
        ({"table.include.list": "public.items", **routed()}, "cdc.items", True),
        ({"table.include.list": "public.items", **routed()}, "shop.public.items", False),
        ({"table.include.list": "public.items", **routed(LOGICAL)}, "cdc.items", True),
        (
            {
                "table.include.list": "public.s_1,public.s_2",
                **routed(regex=r"(.*)s_.*", to="$1all"),
            },
            "shop.public.all",
            True,
        ),
        (
            {
                "table.include.list": "public.items",
                **routed(),
                "transforms.route.predicate": "isItems",
            },
            "shop.public.items",
            True,
        ),
        ({"table.include.list": r"public\..*", **routed()}, "cdc.items", None),
        (routed(regex="(?<x>a).*", to="${x}"), "cdc.items", None),
        ({"topic.naming.strategy": "com.example.Own"}, "cdc.items", None),
        (
            {"table.include.list": "public.items", "topic.naming.strategy": "com.example.Own"},
            "cdc.items",
            None,
        ),
        ({"transforms": "x", "transforms.x.type": "com.example.MyRouter"}, "cdc.items", None),
        (
            {
                "table.include.list": "public.outbox",
                "transforms": "o",
                "transforms.o.type": "io.debezium.transforms.outbox.EventRouter",
            },
            "outbox.event.order",
            True,
        ),
    ],
)
def test_a_topics_connector_is_known_by_what_it_captures(
    settings: dict[str, str], topic: str, expected: bool | None
) -> None:
    assert captures({"topic.prefix": "shop", **settings}, topic) is expected


def test_a_connector_without_a_prefix_writes_nothing_of_ours() -> None:
    assert captures({}, "shop.public.items") is False


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@given(prefix=NAMES, schema=NAMES, tables=st.sets(NAMES, min_size=1, max_size=4), other=NAMES)
def test_an_include_list_captures_its_own_tables_and_no_other(
    prefix: str, schema: str, tables: set[str], other: str
) -> None:
    listed = ",".join(f"{schema}.{table}" for table in tables)
    settings = {"topic.prefix": prefix, "table.include.list": listed}
    assert all(captures(settings, f"{prefix}.{schema}.{table}") for table in tables)
    assert captures(settings, f"{prefix}.{schema}.{other}") is (other in tables)
