"""What an operator may say about one column: the only place where a column's type is chosen by hand."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from cdc_sink.config.secrets import Frozen
from cdc_sink.debezium.options import ColumnOption


class ColumnSettings(Frozen):
    """What is said about one column; of an array column it is said about the elements."""

    type: str | None = Field(
        default=None,
        description="an Iceberg type instead of the usual one. `string`: a decimal of any size in "
        "plain digits, or a time or document as the text that is sent; `decimal(p,s)`: a number that "
        "is sent as text, with an open scale or with more than 38 digits, where each value that does "
        "not fit is a fault; `long`: a date or time as the number that is sent. Default none: "
        "docs/types.md",
    )
    unsigned: bool = Field(
        default=False,
        description="the column is a BIGINT UNSIGNED that bigint.unsigned.handling.mode=long sends "
        "as a signed number: store it as decimal(20,0); default false: nothing in the schema tells it "
        "from a BIGINT",
    )
    on_infinity: Literal["fault", "null"] = Field(
        default="fault",
        description="what becomes of PostgreSQL's infinite dates and timestamps: `fault` or `null`; "
        "default fault: NULL means something else",
    )

    constant_default: bool = Field(
        default=False,
        description="a zero, false, empty or 1970-01-01 default of a column to be added is the source's own, "
        "so older rows get it; default false: the connector writes the same for an expression that it can't "
        "evaluate, and older rows get NULL (docs/schema-change.md)",
    )

    dropped: bool = Field(
        default=False,
        description="the source has dropped the column, so rows of later changes hold NULL in it; only "
        "asked for where no change ever had it, as with what PostgreSQL computes (docs/schema-change.md); "
        "default false: the table stops there",
    )

    mask: Literal["sha256", "redact", "null"] | None = Field(
        default=None,
        description="what the table gets instead of the value: sha256, its SHA-256 in hex, equal for equal "
        "values, so few possible values can be tried out; redact, `****`; null, NULL. sha256 and redact take "
        "texts alone; a column of the key can't be masked; dead letters of the table keep no values then; "
        "default none",
    )

    @field_validator("on_infinity", "mask", mode="before")
    @classmethod
    def _read_yaml_null(cls, given: object) -> object:
        return "null" if given is None else given

    @field_validator("type")
    @classmethod
    def _require_possible(cls, given: str | None) -> str | None:
        if given == "variant":
            raise ValueError(
                "variant is refused: it would round numbers of a document, and pyiceberg, which "
                "verify and status read tables with, can't open a table that has such a column; "
                "leave the document as string and use parse_json when reading"
            )
        found = re.fullmatch(r"decimal\((\d+),(\d+)\)", given or "decimal(1,0)")
        digits = (int(found[1]), int(found[2])) if found else (0, 0)
        if given not in ("string", "long") and not 1 <= max(digits) == digits[0] <= 38:
            raise ValueError("must be string, long or decimal(p,s) with s <= p <= 38")
        return given

    @property
    def option(self) -> ColumnOption:
        """The same for the rooms that know no configuration."""
        return ColumnOption(
            self.type, self.unsigned, self.on_infinity, self.constant_default, self.dropped
        )
