"""Records of Connect's JsonConverter, brought into the usual framing by JVM expressions alone.

JsonConverter writes `{"schema":S,"payload":P}` with nothing in between, and S is the same text in every
record of one schema. So a known schema is recognised by the bytes a record begins with, and never parsed
again; only P is, and encoded as Avro behind the id of S. A record of an unknown S is framed without a body:
`decode` finds no schema for its id, and the driver learns S.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.avro.functions import to_avro

from cdc_sink.debezium.avro_schema import MAX_SCHEMA_CHARS, Node
from cdc_sink.debezium.wire.confluent import (
    JSON_LAYOUT,
    JSON_PAYLOAD,
    JSON_SCHEMA,
    NO_JSON,
    NO_SCHEMA,
    fault_mark,
    frame_prefix,
)
from cdc_sink.debezium.wire.connect_json import (
    NotConnect,
    avro_of,
    schema_id_of,
    schema_id_sql,
    what_is_read,
    writer_json,
)
from cdc_sink.debezium.wire.json_payload_sql import (
    LONE_SURROGATE,
    encoder_schema,
    misfit_sql,
    read_type,
    value_sql,
)
from cdc_sink.errors import SchemaError
from cdc_sink.spark.read.decode import FEW_SCHEMAS, with_raw
from cdc_sink.sql import literal

MOST_SCHEMAS: Final = 300

_SIDES: Final = ("key", "value")
_HEAD: Final = '{"schema":'
_MIDDLE: Final = ',"payload":'
_TAIL: Final = b"}"
# A payload is read inside an object of ours: what follows it would be passed over, were it not for `e`.
_OPTIONS: Final = {
    "mode": "PERMISSIVE",
    "columnNameOfCorruptRecord": "c",
    "allowSingleQuotes": "false",
}


@dataclass(frozen=True)
class JsonSchema:
    """One schema text, and how payloads of it are read."""

    text: str
    id: int
    tree: Node
    writer: str

    @classmethod
    def of(cls, text: str) -> JsonSchema:
        """Read a schema. Raises: NotConnect; SchemaError."""
        tree = what_is_read(avro_of(text))
        return cls(text, schema_id_of(text), tree, writer_json(tree))

    @property
    def prefix(self) -> bytes:
        """What every record of this schema begins with."""
        return f"{_HEAD}{self.text}{_MIDDLE}".encode()

    def read(self, payload: str) -> SparkColumn:
        """Read a payload column: `p` itself, `e` and `c` that tell whether it was all and sound."""
        kind = f"p {read_type(self.tree)}, e int, c string"
        is_text = f"is_valid_utf8({payload})"
        # The pattern is slow, and what it looks for begins like this.
        has_half = f"contains({payload}, '\\\\uD') OR contains({payload}, '\\\\ud')"
        is_cut = (
            f"CASE WHEN {has_half} THEN {payload} RLIKE {literal(LONE_SURROGATE)} ELSE false END"
        )
        sound = F.expr(f"CASE WHEN {is_text} AND NOT ({is_cut}) THEN {payload} ELSE '!' END")
        text = F.concat(F.lit('{"p":'), sound, F.lit(',"e":1}'))
        return F.from_json(text, kind, _OPTIONS)

    def frame(self, read: str, value: str, payload: str) -> SparkColumn:
        """Frame what was read, or mark that it does not fit."""
        lenient = misfit_sql(self.tree, f"{read}.p", value, payload)
        parts = [f"{read}.e IS NULL", f"{read}.c IS NOT NULL", *([lenient] if lenient else [])]
        body = to_avro(F.col(value), encoder_schema(self.writer))
        mark = F.lit(fault_mark(JSON_PAYLOAD))
        framed = F.concat(F.lit(frame_prefix(self.id)), body)
        return F.when(F.expr(" OR ".join(parts)), mark).otherwise(framed)


@dataclass
class Json:
    """The JSON records of one topic, and the schemas met in them so far."""

    where: str
    schemas: dict[int, JsonSchema] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)

    def framed(self, records: DataFrame) -> DataFrame:
        """Encode what is of a known schema, name what is not JSON as it must be; see `Converter`."""
        records = with_raw(records)
        kept = records.columns
        recognised = self._recognised(records, self.schemas)
        used = self._used(recognised)
        # Not deterministic, as in decode.py: else a payload would be read once per column of it.
        stays = F.spark_partition_id() >= 0
        parts = [(side, one) for side in _SIDES for one in used]
        read = recognised.select(
            "*",
            *(
                F.when((F.col(f"_{s}_id") == o.id) & stays, o.read(f"_{s}_p")).alias(
                    f"_{s}_r{o.id}"
                )
                for s, o in parts
            ),
        )
        valued = read.select(
            "*",
            *(
                F.when(
                    F.col(f"_{s}_r{o.id}").isNotNull() & stays,
                    F.expr(value_sql(o.tree, f"_{s}_r{o.id}.p")),
                ).alias(f"_{s}_v{o.id}")
                for s, o in parts
            ),
        )
        columns = [self._framed(s, used).alias(s) if s in _SIDES else F.col(s) for s in kept]
        return valued.select(*columns)

    def learn(self, records: DataFrame) -> None:
        """Collect the schema texts that are new, each once.

        Raises: SchemaError for too many, for two of one id, or for one that no table can be made of.
        """
        # The first new one is nearly always the only one, and then the rest is only compared with it.
        if first := self._new(records).limit(1).collect():
            self._add(first[0]["text"])
            for row in self._new(records).distinct().limit(MOST_SCHEMAS + 1).collect():
                self._add(row["text"])

    def schema(self, schema_id: int) -> str:
        """The Avro schema that `framed` encodes with: of an envelope, the part that is read."""
        if schema_id not in self.schemas:
            raise SchemaError(
                self.where,
                f"the JSON schema of id {schema_id} is in no record at hand",
                data="the batch was not applied, its offsets were not committed",
                remedy="start the query again: schemas are learnt from the records themselves",
            )
        return self.schemas[schema_id].writer

    def _add(self, text: str) -> None:
        try:
            found = JsonSchema.of(text)
        except NotConnect:
            self.refused.add(text)
        else:
            known = self.schemas.setdefault(found.id, found)
            if known.text != text:
                raise SchemaError(
                    self.where,
                    f"two JSON schemas have one id, {found.id}",
                    data="the batch was not applied, its offsets were not committed",
                    remedy="change a comment or a default of the source table, or use Avro converters",
                )
        if len(self.schemas) + len(self.refused) > MOST_SCHEMAS:
            raise SchemaError(
                self.where,
                f"the topic's records carry more than {MOST_SCHEMAS} different JSON schemas",
                data="the batch was not applied, its offsets were not committed",
                remedy="look for a producer that writes a schema per record; else start the query again "
                "and lower max_records_per_batch",
            )

    def _recognised(self, records: DataFrame, schemas: Collection[int]) -> DataFrame:
        """Add, per side, the id of the known schema and the payload's text; null for all others."""
        known = [self.schemas[i] for i in sorted(schemas)]
        columns: list[SparkColumn] = []
        for side in _SIDES:
            number, payload = F.lit(None).cast("bigint"), F.lit(None).cast("string")
            for one in known:
                begins = F.startswith(side, F.lit(one.prefix)) & F.endswith(side, F.lit(_TAIL))
                size = len(one.prefix)
                rest = F.expr(
                    f"CAST(substring({side}, {size + 1}, length({side}) - {size + 1}) AS STRING)"
                )
                number = F.when(begins, F.lit(one.id).cast("bigint")).otherwise(number)
                payload = F.when(begins, rest).otherwise(payload)
            columns += [number.alias(f"_{side}_id"), payload.alias(f"_{side}_p")]
        return records.select("*", *columns)

    def _used(self, recognised: DataFrame) -> Sequence[JsonSchema]:
        if len(self.schemas) <= FEW_SCHEMAS:
            return [self.schemas[i] for i in sorted(self.schemas)]
        ids = [F.collect_set(f"_{side}_id").alias(side) for side in _SIDES]
        seen = recognised.agg(*ids).first()
        assert seen is not None
        return [self.schemas[i] for i in sorted({*seen["key"], *seen["value"]})]

    def _new(self, records: DataFrame) -> DataFrame:
        """The schema texts of records that are neither known nor refused."""
        unknown = self._recognised(records, self.schemas)
        texts = [
            F.when(F.col(f"_{side}_id").isNull(), F.expr(_schema_text_sql(side))) for side in _SIDES
        ]
        found = unknown.select(F.explode(F.array(*texts)).alias("text")).where("text IS NOT NULL")
        return found.where(~F.col("text").isin(*self.refused)) if self.refused else found

    def _framed(self, side: str, used: Sequence[JsonSchema]) -> SparkColumn:
        other = F.expr(self._unknown_sql(side))
        framed = F.when(F.col(side).isNull(), F.lit(None).cast("binary"))
        for one in used:
            frame = one.frame(f"_{side}_r{one.id}", f"_{side}_v{one.id}", f"_{side}_p")
            framed = framed.when(F.col(f"_{side}_id") == one.id, frame)
        return framed.otherwise(other)

    def _unknown_sql(self, side: str) -> str:
        """A frame without a body where a schema stands, else the mark of what is wrong."""
        schema, whole = _schema_text_sql(side), f"CAST({side} AS STRING)"
        marks = {code: f"X'{fault_mark(code).hex()}'" for code in _MARKED}
        options = "map('columnNameOfCorruptRecord', 'c', 'allowSingleQuotes', 'false')"
        outer = f"from_json({whole}, 'schema string, c string', {options})"
        frame = f"unhex(concat('00', lpad(hex({schema_id_sql(schema)}), 8, '0')))"
        listed = ", ".join(map(literal, sorted(self.refused)))
        refused = f"WHEN {schema} IN ({listed}) THEN {marks[JSON_SCHEMA]} " if listed else ""
        return (
            f"CASE WHEN NOT is_valid_utf8({whole}) THEN {marks[NO_JSON]} {refused}"
            f"WHEN {schema} IS NOT NULL THEN {frame} "
            f"WHEN {outer}.c IS NOT NULL OR NOT startswith({whole}, '{{') THEN {marks[NO_JSON]} "
            f"WHEN {outer}.schema IS NULL THEN {marks[NO_SCHEMA]} "
            f"ELSE {marks[JSON_LAYOUT]} END"
        )


_MARKED: Final = (NO_JSON, NO_SCHEMA, JSON_LAYOUT, JSON_SCHEMA)


def _schema_text_sql(side: str) -> str:
    """The schema's own text, exactly as it stands; NULL where the record is laid out otherwise."""
    whole = f"CAST({side} AS STRING)"
    at = f"locate('{_MIDDLE}', {whole})"
    text = f"substring({whole}, {len(_HEAD) + 1}, {at} - {len(_HEAD) + 1})"
    fits = f"{at} BETWEEN 1 AND {MAX_SCHEMA_CHARS} AND is_valid_utf8({whole})"
    return (
        f"CASE WHEN startswith({whole}, '{_HEAD}{{') AND endswith({whole}, '}}') AND {fits} "
        f"THEN {text} END"
    )
