"""Whether a table's columns have the names that its settings ask for.

Rules owned here: under the two names that `avro_unicode` gives one column, a table has one column. Were a
second added, the first would turn null row by row: `field_names` was changed, or the connector's
field.name.adjustment.mode.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from cdc_sink.debezium.adjusted_names import undo_unicode, unicode_name
from cdc_sink.debezium.envelope import AvroField
from cdc_sink.errors import SchemaError

_MODE = "field.name.adjustment.mode"


def require_one_name(
    fields: Sequence[AvroField], held: Collection[str], renames: Mapping[str, str]
) -> None:
    """Refuse a field whose column the table has under its other name.

    In:     fields by the names that the table shall have; the names that it has; `renames`, which may say
            that the one is the other.
    Raises: SchemaError naming both.
    """
    asked = {field.name for field in fields}
    for field in fields:
        if field.name in held:
            continue
        for other in {unicode_name(field.name), undo_unicode(field.name)} - asked - {None}:
            if other in held and renames.get(str(other)) != field.name:
                raise SchemaError(
                    f"column {field.name}",
                    f"the table has it as {other}: the two are one name, with and without "
                    f"{_MODE}=avro_unicode",
                    remedy=f"set `renames: {{{other}: {field.name}}}` for the table; or set "
                    f"`field_names` and the connector's {_MODE} back to what they were",
                )
