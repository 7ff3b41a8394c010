"""Every type that PostgreSQL and MySQL can send, two values of each; and connectors in every mode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

# column → its type, then two values.
Columns = Mapping[str, tuple[str, str, str]]

POSTGRES: Columns = {
    "flag": ("bool", "true", "false"),
    "i2": ("smallint", "-32768", "32767"),
    "i4": ("int", "-2147483648", "2147483647"),
    "i8": ("bigint", "-9223372036854775808", "9223372036854775807"),
    "o": ("oid", "4294967295", "0"),
    "r": ("real", "3.4028235e38", "'NaN'"),
    "d": ("double precision", "5e-324", "'-Infinity'"),
    "n": ("numeric(10,2)", "99999999.99", "-99999999.99"),
    "n38": ("numeric(38,5)", f"{'9' * 33}.99999", f"-{'9' * 33}.99999"),
    "n50": ("numeric(50,5)", f"{'9' * 45}.99999", f"-{'9' * 45}.99999"),
    "n_open": ("numeric", f"{'123456789' * 20}.1234500", "-0.000000000000000000012"),
    "m": ("money", "'-92233720368547758.08'", "'92233720368547758.07'"),
    "c": ("char(3)", "'a'", "''"),
    "t": ("text", "E'\\u20ac\\U0001F600 \\t\\n\"\\''", "''"),
    "raw": ("bytea", "'\\x00ff'", "''"),
    "bit1": ("bit(1)", "B'1'", "B'0'"),
    "bit10": ("bit(10)", "B'1000000001'", "B'0000000010'"),
    "bits70": ("varbit(70)", "B'0'", "B'1'"),
    "bits": ("varbit", f"B'{'10' * 35}'", "B'101'"),
    "day": ("date", "'9999-12-31'", "'0001-01-01'"),
    "t3": ("time(3)", "'23:59:59.999'", "'00:00'"),
    "t6": ("time", "'23:59:59.999999'", "'12:34:56.7'"),
    "tz": ("timetz", "'23:59:59.999999-15:59'", "'00:00:00+15:59'"),
    "ts3": ("timestamp(3)", "'9999-12-31 23:59:59.999'", "'0001-01-01'"),
    "ts6": ("timestamp", "'9999-12-31 23:59:59.999999'", "'0001-01-01'"),
    "tsz": ("timestamptz", "'9999-12-31 23:59:59.999999+00'", "'0001-01-01 00:00:00+00'"),
    "iv": ("interval", "'1 year 2 mons 3 days 04:05:06.789012'", "'-1 mons +1 day -00:00:00.5'"),
    "u": ("uuid", "'ffffffff-ffff-ffff-ffff-ffffffffffff'", f"'{'0' * 32}'"),
    "j": ("json", """'{"a": 1, "b": [1.10, null]}'""", "'null'"),
    "jb": ("jsonb", """'{"a": 1e400}'""", "'[]'"),
    "x": ("xml", "as_xml('<a/>')", "as_xml('')"),
    "e": ("mood", "'it''s \"x\"'", "'sad'"),
    "ine": ("inet", "'10.0.0.1/8'", "'::1'"),
    "ci": ("cidr", "'10.0.0.0/8'", "'0.0.0.0/0'"),
    "ma": ("macaddr", "'08:00:2b:01:02:03'", "'00:00:00:00:00:00'"),
    "ir": ("int4range", "'[1,5)'", "'empty'"),
    "tzr": ("tstzrange", "'[2020-01-01 00:00+00,)'", "'(,)'"),
    "tv": ("tsvector", "'a:1 b:2'", "''"),
    "p": ("point", "'(1.5,-2)'", "'(0,1e300)'"),
    "h": ("hstore", """'"a"=>"1", "b"=>NULL, "c\\"d"=>""'""", "''"),
    "l": ("ltree", "'a.b.c'", "''"),
    "ct": ("citext", "'Ci'", "''"),
    "g": ("geometry", f"'0101000020E6100000{'0' * 12}F03F{'0' * 14}40'", f"'0101000000{'0' * 32}'"),
    "gg": ("geography", f"'0101000020E6100000{'0' * 32}'", f"'0101000020E6100000{'0' * 32}'"),
    "v": ("vector(3)", "'[1,2,3.5]'", "'[0,-1,1e10]'"),
    "hv": ("halfvec(3)", "'[1,2,3.5]'", "'[0,-1,65504]'"),
    "sv": ("sparsevec(5)", "'{1:1.5,3:2}/5'", "'{5:-1}/5'"),
    "a_i2": ("smallint[]", "'{1,NULL,-32768}'", "'{}'"),
    "a_i4": ("int[]", "'{1,NULL}'", "'{}'"),
    "a_i8": ("bigint[]", "'{9223372036854775807,NULL}'", "'{}'"),
    "a_r": ("real[]", "'{1.5,NULL,NaN}'", "'{3.4028235e38}'"),
    "a_d": ("float8[]", "'{0.1,NULL,Infinity}'", "'{}'"),
    "a_b": ("bool[]", "'{t,f,NULL}'", "'{}'"),
    "a_t": ("text[]", """'{"a\\"b",NULL,"NULL","",a b,"{,}"}'""", "'{}'"),
    "a_c": ("char(3)[]", "'{a,NULL}'", "'{}'"),
    "a_n": ("numeric(10,2)[]", "'{1.50,NULL,-99999999.99}'", "'{}'"),
    "a_no": ("numeric[]", f"'{{1.50,NULL,{'123456789' * 8}}}'", "'{}'"),
    "a_day": ("date[]", "'{2020-01-01,NULL,9999-12-31}'", "'{}'"),
    "a_ts": ("timestamp[]", "'{2020-01-01 00:00:00.123456,NULL}'", "'{}'"),
    "a_tsz": ("timestamptz[]", "'{2020-01-01 00:00:00.1+00,NULL}'", "'{}'"),
    "a_ti": ("time[]", "'{10:00:00.5,NULL}'", "'{}'"),
    "a_tz": ("timetz[]", "'{10:00:00+02,NULL}'", "'{}'"),
    "a_u": ("uuid[]", "'{ffffffff-ffff-ffff-ffff-ffffffffffff,NULL}'", "'{}'"),
    "a_raw": ("bytea[]", """'{"\\\\x00ff",NULL,""}'""", "'{}'"),
    "a_j": ("json[]", """'{"{\\"a\\": 1}",NULL}'""", "'{}'"),
    "a_e": ("mood[]", "'{sad,ok}'", "'{}'"),
    "a_in": ("inet[]", "'{10.0.0.1,NULL}'", "'{}'"),
    "inf_day": ("date", "'infinity'", "'-infinity'"),
    "inf_ts": ("timestamp", "'infinity'", "'-infinity'"),
    "inf_tsz": ("timestamptz", "'infinity'", "'-infinity'"),
    "inf_days": ("date[]", "'{infinity,2020-01-01,NULL}'", "'{-infinity}'"),
}
POSTGRES_OPTIONS: dict[str, object] = {
    "n50": {"type": "string"},
    **{name: {"on_infinity": None} for name in POSTGRES if name.startswith("inf_")},
}
MYSQL: Columns = {
    "flag": ("boolean", "1", "0"),
    "tiu": ("tinyint unsigned", "255", "0"),
    # With 16 numbers (the key is one) and a YEAR, Debezium 3.6.1 can't read the binlog any more.
    "siu": ("smallint unsigned", "65535", "0"),
    "miu": ("mediumint unsigned", "16777215", "0"),
    "i": ("int", "-2147483648", "2147483647"),
    "iu": ("int unsigned", "4294967295", "0"),
    "bi": ("bigint", "-9223372036854775808", "9223372036854775807"),
    "biu": ("bigint unsigned", "18446744073709551615", "9223372036854775808"),
    "f": ("float", "0.5", "-0.25"),
    "d": ("double", "1.7976931348623157e308", "5e-324"),
    "n": ("decimal(10,2)", "-99999999.99", "99999999.99"),
    "n38": ("decimal(38,5)", f"{'9' * 33}.99999", f"-{'9' * 33}.99999"),
    "n65": ("decimal(65,30)", f"{'9' * 35}.{'9' * 30}", f"-0.{'0' * 29}1"),
    "z": ("int zerofill", "7", "0"),
    "bit1": ("bit(1)", "b'1'", "b'0'"),
    "bit10": ("bit(10)", "b'1000000001'", "b'0'"),
    "bit64": ("bit(64)", f"b'{'10' * 32}'", "b'1'"),
    "c": ("char(3)", "'a'", "''"),
    "t": ("longtext", "'\u20ac\U0001f600 \"'", "''"),
    "fixed": ("binary(4)", "x'00ff'", "x''"),
    "raw": ("varbinary(9)", "x'00ff'", "x''"),
    "big": ("longblob", "x'00ff'", "x''"),
    "day": ("date", "'9999-12-31'", "'1000-01-01'"),
    "dt0": ("datetime", "'9999-12-31 23:59:59'", "'1000-01-01'"),
    "dt3": ("datetime(3)", "'9999-12-31 23:59:59.999'", "'1000-01-01'"),
    "dt6": ("datetime(6)", "'9999-12-31 23:59:59.999999'", "'1000-01-01'"),
    "ts0": ("timestamp NULL", "'2038-01-19 03:14:07'", "'1970-01-01 00:00:01'"),
    "ts6": ("timestamp(6) NULL", "'2038-01-19 03:14:07.999999'", "'1970-01-01 00:00:01.000001'"),
    "y": ("year", "2155", "1901"),
    "e": ("enum('a','d''e')", "'d''e'", "'a'"),
    "s": ("set('x','y z','w')", "'w,x'", "''"),
    "j": ("json", """'{"b": 1.10, "a": [1, null]}'""", "'null'"),
    "g": ("geometry", "ST_GeomFromText('LINESTRING(0 0,1 1.5)')", "ST_GeomFromText('POINT(1 2)')"),
    "p": ("point", "ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('POINT(0 -1e300)')"),
    "po": (
        "polygon",
        "ST_GeomFromText('POLYGON((0 0,1 0,1 1,0 0))')",
        "ST_GeomFromText('POLYGON((0 0,9 0,9 9,0 0))')",
    ),
}
# Values that lose nothing in any of the modes: whole milliseconds, years 1677 to 2262, within a day.
MOMENTS: Columns = {
    "day": ("date", "'2262-04-10'", "'1677-09-22'"),
    "t6": ("time(6)", "'23:59:59.999'", "'00:00'"),
    "dt3": ("{stamp}(3)", "'2262-04-10 23:59:59.999'", "'1677-09-22'"),
    "dt6": ("{stamp}(6)", "'2262-04-10 23:59:59.999'", "'1969-12-31 23:59:59.999'"),
    "n": ("decimal(10,2)", "99999999.99", "-0.01"),
    "raw": ("{bytes}", "{hex}", "{empty}"),
}
CLOCKS: Columns = {
    "t0": ("time", "'838:59:59'", "'-838:59:59'"),
    "t3": ("time(3)", "'-00:00:00.001'", "'838:59:58.999'"),
    "t6": ("time(6)", "'-00:00:00.000001'", "'838:59:58.999999'"),
}
WORDS = {
    "postgres": {"stamp": "timestamp", "bytes": "bytea", "hex": "'\\x00ff'", "empty": "''"},
    "mysql": {"stamp": "datetime", "bytes": "varbinary(9)", "hex": "x'00ff'", "empty": "x''"},
}


@dataclass(frozen=True)
class Mode:
    """One connector: its settings over some tables, and what its pipeline is told about them."""

    name: str
    server: str
    tables: tuple[str, ...]
    settings: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    binary: str = "base64"


TIME_MODE = "time.precision.mode"
UNUSUAL = {
    TIME_MODE: "isostring",
    "decimal.handling.mode": "string",
    "interval.handling.mode": "string",
    "hstore.handling.mode": "map",
    "binary.handling.mode": "base64",
}
OF_CONNECT = {
    TIME_MODE: "connect",
    "decimal.handling.mode": "double",
    "binary.handling.mode": "hex",
}
OF_MICROS = {TIME_MODE: "microseconds", "binary.handling.mode": "base64-url-safe"}
MODES = (
    Mode("ty_pg", "postgres", ("ty_values",), options=POSTGRES_OPTIONS),
    Mode("ty_pg_text", "postgres", ("ty_values",), UNUSUAL, POSTGRES_OPTIONS),
    Mode("ty_pg_connect", "postgres", ("ty_moments",), OF_CONNECT, binary="hex"),
    Mode("ty_pg_us", "postgres", ("ty_moments",), OF_MICROS, binary="base64-url-safe"),
    Mode("ty_pg_ns", "postgres", ("ty_moments",), {TIME_MODE: "nanoseconds"}),
    Mode(
        "ty_my",
        "mysql",
        ("ty_values", "ty_clocks"),
        {"bigint.unsigned.handling.mode": "long"},
        options={"biu": {"unsigned": True}, "n65": {"type": "string"}},
    ),
    Mode(
        "ty_my_text",
        "mysql",
        ("ty_values",),
        {
            TIME_MODE: "isostring",
            "decimal.handling.mode": "string",
            "bigint.unsigned.handling.mode": "precise",
            "binary.handling.mode": "base64",
        },
    ),
    Mode("ty_my_connect", "mysql", ("ty_moments",), OF_CONNECT, binary="hex"),
    Mode("ty_my_us", "mysql", ("ty_moments",), OF_MICROS, binary="base64-url-safe"),
    Mode("ty_my_ns", "mysql", ("ty_moments", "ty_clocks"), {TIME_MODE: "nanoseconds"}),
)


def tables_of(server: str) -> dict[str, Columns]:
    words = WORDS[server]
    moments = {
        name: tuple(part.format(**words) if "{" in part else part for part in parts)
        for name, parts in MOMENTS.items()
    }
    tables = {"ty_values": POSTGRES if server == "postgres" else MYSQL, "ty_moments": moments}
    return tables | ({"ty_clocks": CLOCKS} if server == "mysql" else {})  # type: ignore[return-value]


def created(table: str, columns: Columns) -> str:
    listed = ", ".join(f"{name} {parts[0]}" for name, parts in columns.items())
    return f"CREATE TABLE {table} (id int PRIMARY KEY, {listed})"


def inserted(table: str, columns: Columns, first_id: int) -> Iterator[str]:
    """Both values of each column, and NULLs."""
    names = ", ".join(columns)
    for row in (1, 2):
        values = ", ".join(parts[row] for parts in columns.values())
        yield f"INSERT INTO {table} (id, {names}) VALUES ({first_id + row}, {values})"
    yield f"INSERT INTO {table} (id) VALUES ({first_id})"
