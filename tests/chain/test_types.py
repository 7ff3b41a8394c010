"""Every type that PostgreSQL and MySQL can send, at its extremes, through the whole chain.

The database is the oracle: `verify` compares each table with its source, so nothing here says what a
value looks like in between. Types whose values Debezium itself loses are in docs/types.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from pyspark.sql import Row

from cdc_sink.check.rules.connector import check_left_out
from cdc_sink.check.rules.table import SchemaReading, WantedTable
from cdc_sink.clients.registry import RegistryClient
from cdc_sink.demo.chain.chain import Chain
from cdc_sink.spark.read.decode import decode
from cdc_sink.table.schema.writer_schemas import WriterSchemas
from cdc_sink.verification.verify import verify
from tests.chain.pipelines import Lake, run_once, wait_for_records
from tests.chain.source_types import MODES, Mode, created, inserted, tables_of

# Extensions the server lacks are stood in for by types of the same name, which Debezium knows by name only.
STAND_INS = ("hstore", "ltree", "citext", "geometry", "geography")


def run(chain: Chain, server: str, *statements: str) -> None:
    if server == "postgres":
        with chain.postgres.connect("shop") as connection:
            for statement in statements:
                connection.execute(statement.encode())
        return
    opened = chain.mysql.connect("shop")
    with opened, opened.cursor() as cursor:
        cursor.execute("SET SESSION time_zone = '+00:00'")
        for statement in statements:
            cursor.execute(statement)


def stand_in(name: str) -> list[str]:
    function = "LANGUAGE internal STRICT IMMUTABLE"
    return [
        f"CREATE TYPE {name}",
        f"CREATE FUNCTION {name}_in(cstring) RETURNS {name} AS 'textin' {function}",
        f"CREATE FUNCTION {name}_out({name}) RETURNS cstring AS 'textout' {function}",
        f"CREATE TYPE {name} (INPUT = {name}_in, OUTPUT = {name}_out, LIKE = text)",
    ]


def fill(chain: Chain, first_id: int) -> None:
    for server in ("postgres", "mysql"):
        for table, columns in tables_of(server).items():
            run(chain, server, *inserted(table, columns, first_id))


def topic(mode: Mode, table: str) -> str:
    return f"{mode.name}.{'public' if mode.server == 'postgres' else 'shop'}.{table}"


@pytest.fixture(scope="module")
def sources(chain: Chain) -> Iterator[Chain]:
    run(
        chain,
        "postgres",
        "CREATE EXTENSION vector",
        "CREATE TYPE mood AS ENUM ('sad', 'ok', 'it''s \"x\"')",
        "CREATE FUNCTION as_xml(cstring) RETURNS xml AS 'textin' LANGUAGE internal STRICT IMMUTABLE",
        *(statement for name in STAND_INS for statement in stand_in(name)),
    )
    for server in ("postgres", "mysql"):
        run(chain, server, *(created(*table) for table in tables_of(server).items()))
    fill(chain, 0)
    for mode in MODES:
        chain.add_connector(mode.name, settings_of(chain, mode))
    for mode in MODES:
        for table in mode.tables:
            wait_for_records(chain, topic(mode, table), 3)
    fill(chain, 10)
    for mode in MODES:
        for table in mode.tables:
            wait_for_records(chain, topic(mode, table), 6)
    yield chain
    for mode in MODES:
        chain.remove_connector(mode.name)


def settings_of(chain: Chain, mode: Mode) -> dict[str, str]:
    if mode.server == "postgres":
        names = [f"public.{table}" for table in mode.tables]
        settings = chain.postgres_connector(mode.name, "shop", names, slot=mode.name)
    else:
        names = [f"shop.{table}" for table in mode.tables]
        settings = chain.mysql_connector(mode.name, "shop", names)
    return settings | dict(mode.settings)


def test_every_type_equals_its_source_in_every_mode(sources: Chain, lake: Lake) -> None:
    tables: list[dict[str, object]] = []
    for mode in MODES:
        for table in mode.tables:
            schema = "public" if mode.server == "postgres" else "shop"
            source = {"database": mode.server, "table": f"{schema}.{table}", "binary": mode.binary}
            known = tables_of(mode.server)[table]
            columns = {name: given for name, given in mode.options.items() if name in known}
            tables.append(
                {
                    "topic": topic(mode, table),
                    "target": f"types.{mode.name}_{table}",
                    "buckets": 0,
                    "source": source,
                    "columns": columns,
                }
            )
    pipeline = lake.pipeline(*tables)
    running = run_once(pipeline, lake.spark)
    assert [str(query.error) for query in running.queries if query.error] == []
    found = {one.table: one for one in verify(pipeline, wait_s=0)}
    assert {name: one.differences for name, one in found.items() if one.differences} == {}
    assert {name: one.rows_table for name, one in found.items()} == dict.fromkeys(found, 6)
    assert [name for name, one in found.items() if not one.equal] == []


# Large enough to lie outside of the row, so that an update of another column doesn't carry them.
LARGE: Mapping[str, tuple[str, str]] = {
    "t": ("text", "repeat('x', 9000)"),
    "jb": ("jsonb", "to_jsonb(repeat('x', 9000))"),
    "raw": ("bytea", "convert_to(repeat('x', 9000), 'UTF8')"),
    "a_t": ("text[]", "array_fill('x'::text, ARRAY[3000])"),
    "a_vc": ("varchar(5)[]", "array_fill('x'::varchar, ARRAY[3000])"),
    "a_jb": ("jsonb[]", "array_fill('1'::jsonb, ARRAY[3000])"),
    "a_i4": ("int[]", "array_fill(1, ARRAY[3000])"),
    "a_i8": ("bigint[]", "array_fill(1::bigint, ARRAY[3000])"),
    "a_day": ("date[]", "array_fill('2020-01-01'::date, ARRAY[3000])"),
    "a_u": ("uuid[]", "array_fill(gen_random_uuid(), ARRAY[3000])"),
    "a_raw": ("bytea[]", "array_fill('x'::bytea, ARRAY[3000])"),
    "h": ("hstore", """hstore_in(textout('"x"=>"' || repeat('x', 9000) || '"'))"""),
}
LARGE_MODES = (
    Mode("ty_large", "postgres", ("ty_large",)),
    Mode(
        "ty_large_text",
        "postgres",
        ("ty_large",),
        {
            "hstore.handling.mode": "map",
            "binary.handling.mode": "base64",
            "unavailable.value.placeholder": "hex:6e6f7468696e67",
            # Debezium 3.6.1 can't write the placeholder of a base64 column, and would fail.
            "event.converting.failure.handling.mode": "warn",
        },
    ),
)


def send_large(
    chain: Chain, table: str, columns: Mapping[str, tuple[str, str]], modes: Sequence[Mode]
) -> None:
    """A row of large values, then an update that leaves them alone, through connectors in these modes."""
    kinds = ", ".join(f"{name} {kind}" for name, (kind, _) in columns.items())
    external = ", ".join(f"ALTER {name} SET STORAGE EXTERNAL" for name in columns)
    values = ", ".join(value for _, value in columns.values())
    run(
        chain,
        "postgres",
        f"CREATE TABLE {table} (id int PRIMARY KEY, n int, {kinds})",
        f"ALTER TABLE {table} {external}",
        *(f"CREATE PUBLICATION {mode.name} FOR TABLE {table}" for mode in modes),
    )
    for mode in modes:
        settings = settings_of(chain, mode) | {"snapshot.mode": "no_data"}
        chain.add_connector(mode.name, settings)
    run(
        chain,
        "postgres",
        f"INSERT INTO {table} VALUES (1, 1, {values})",
        f"UPDATE {table} SET n = 2",
    )
    for mode in modes:
        wait_for_records(chain, topic(mode, table), 2)
        chain.remove_connector(mode.name)


def test_a_large_value_that_did_not_change_is_known_in_each_of_its_forms(
    sources: Chain, lake: Lake
) -> None:
    send_large(sources, "ty_large", LARGE, LARGE_MODES)
    assert unavailable_names(lake, LARGE_MODES[0], {}) == [[], list(LARGE)]
    own = {"unavailable_placeholder": "hex:6e6f7468696e67"}
    # With binary columns as text Debezium 3.6.1 can't write the placeholder: it sends NULL.
    known = [name for name in LARGE if name not in ("raw", "a_raw")]
    assert unavailable_names(lake, LARGE_MODES[1], own) == [[], known]


# No placeholder of the connector's has one of these types.
LOST: Mapping[str, tuple[str, str]] = {
    "a_r": ("real[]", "array_fill(1.5::real, ARRAY[3000])"),
    "a_d": ("double precision[]", "array_fill(1.5::double precision, ARRAY[3000])"),
    "a_b": ("bool[]", "array_fill(true, ARRAY[9000])"),
    "a_i2": ("smallint[]", "array_fill(1::smallint, ARRAY[3000])"),
    "a_n": ("numeric(9,2)[]", "array_fill(1.5::numeric(9,2), ARRAY[3000])"),
    "a_t": ("time[]", "array_fill(time '12:00', ARRAY[3000])"),
    "a_ts": ("timestamp[]", "array_fill(timestamp '2020-01-01', ARRAY[3000])"),
    "a_tz": ("timestamptz[]", "array_fill(timestamptz '2020-01-01', ARRAY[3000])"),
    "v": ("vector(1536)", "array_fill(1.5::real, ARRAY[1536])::vector"),
    "hv": ("halfvec(2000)", "array_fill(1.5::real, ARRAY[2000])::halfvec"),
    "sv": ("sparsevec(3000)", "array_fill(1.5::real, ARRAY[3000])::vector::sparsevec"),
}
LOST_MODE = Mode(
    "ty_lost", "postgres", ("ty_lost",), {"event.converting.failure.handling.mode": "warn"}
)


def test_a_large_value_without_a_placeholder_arrives_as_null_and_check_says_so(
    sources: Chain, lake: Lake
) -> None:
    """Nothing downstream can tell it from NULL; the connectors of conf/ stop instead."""
    send_large(sources, "ty_lost", LOST, [LOST_MODE])
    created, updated = decoded(lake, LOST_MODE, "ty_lost", {})
    assert [name for name in LOST if created.after[name] is None] == []
    assert [name for name in LOST if updated.after[name] is not None] == []
    assert updated.unavailable == []
    name = topic(LOST_MODE, "ty_lost")
    value = list(
        RegistryClient(lake.pipeline({"topic": name}).registry).versions(f"{name}-value").values()
    )[-1]
    wish = WantedTable("types", "types.lost", name)
    (found,) = check_left_out(wish, SchemaReading(value, None), None)
    assert found.where == f"table types.lost columns {', '.join(LOST)}"


def unavailable_names(lake: Lake, mode: Mode, settings: Mapping[str, str]) -> list[list[str]]:
    """The columns that hold the placeholder, record by record."""
    return [row.unavailable for row in decoded(lake, mode, "ty_large", settings)]


def decoded(lake: Lake, mode: Mode, table: str, settings: Mapping[str, str]) -> list[Row]:
    """The changes in a connector's topic."""
    name = topic(mode, table)
    pipeline = lake.pipeline({"topic": name, **settings})
    registry = RegistryClient(pipeline.registry)
    schemas = WriterSchemas(
        registry.versions(f"{name}-value"),
        registry.versions(f"{name}-key"),
        pipeline.tables[0].policy,
    )
    records = (
        lake.spark.read.format("kafka")
        .option("kafka.bootstrap.servers", pipeline.kafka.bootstrap_servers)
        .option("subscribe", name)
        .load()
    )
    return decode(records, schemas, schemas.extend(())).orderBy("offset").collect()
