"""How a name or a text becomes a piece of Spark SQL. Nothing else in the project writes quotes.

Column names come from the source database and may hold anything: dots, spaces, quotes, backticks.
"""

from __future__ import annotations


def quote(name: str) -> str:
    """Write a name as one quoted Spark identifier, whatever characters it holds."""
    return "`" + name.replace("`", "``") + "`"


def literal(text: str) -> str:
    """Write a text as a Spark SQL string literal.

    Source: Spark SQL guide 4.1, Literals; holds for spark.sql.parser.escapedStringLiterals=false.
    """
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
