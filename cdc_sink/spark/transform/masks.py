"""Masks of the configuration, as a transform that comes before the user's own."""

from __future__ import annotations

from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.types import StringType

from cdc_sink.config import Target
from cdc_sink.errors import ConfigError
from cdc_sink.spark.hooks import Hooks, Transform
from cdc_sink.spark.read.decode import key_names, struct_type
from cdc_sink.sql import quote

_MASKED = {"sha256": "sha2({}, 256)", "redact": "IF({0} IS NULL, NULL, '****')"}


def whole_transform(hooks: Hooks, target: Target) -> Transform | None:
    """What stands between decoding and folding of a table: its masks, then the user's function.

    Raises: ConfigError when the configuration names a function that is not there.
    """
    own = hooks.transform_of(target)
    if not target.table.masks:
        return own
    masked = partial(_mask, target)
    return masked if own is None else lambda changes: own(masked(changes))


def _mask(target: Target, changes: DataFrame) -> DataFrame:
    types = {f.name: f.dataType for f in struct_type(changes.schema, "after")}
    after = F.col("after")
    for name, mask in target.table.masks.items():
        if name not in types:
            known = ", ".join(n for n in types if n not in key_names(changes))
            raise _refusal(target, name, f"there is no such column; there are {known}")
        if name in key_names(changes):
            raise _refusal(target, name, "it is a column of the key, by which rows are found again")
        if mask == "null":
            masked = F.lit(None).cast(types[name])
        elif isinstance(types[name], StringType):
            masked = F.expr(_MASKED[mask].format(f"after.{quote(name)}"))
        else:
            kind = types[name].simpleString()
            raise _refusal(target, name, f"{mask} takes texts alone, and it is {kind}")
        after = after.withField(quote(name), masked)
    return changes.withColumn("after", after)


def _refusal(target: Target, column: str, saw: str) -> ConfigError:
    return ConfigError(
        target.name,
        f"the column {column} can't be masked: {saw}",
        data="the batch was not applied, its offsets were not committed",
        remedy=f"correct `mask` of columns.{column}, then start the pipeline again; `mask: null` takes every "
        "type, and column.exclude.list leaves a column out at the connector",
    )
