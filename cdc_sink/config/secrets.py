"""Secrets, and properties that may be secrets.

Rule this file owns: a secret is a reference to an environment variable or a file; its value is read
only where it is used, and never shown.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from cdc_sink.errors import ConfigError


class Frozen(BaseModel):
    """A value that never changes and knows all its keys."""

    # hide_input_in_errors: a value given in the wrong place may be a secret.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class Secret(Frozen):
    """A reference to a secret: `{env: NAME}` or `{file: PATH}`; the value is read when used."""

    env: str | None = Field(default=None, description="environment variable that holds the value")
    file: str | None = Field(
        default=None,
        description="file that holds the value; a line end at the end of it is dropped",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_plain_text(cls, given: object) -> object:
        if isinstance(given, (str, int, float)):
            raise ValueError("a secret is a reference, {env: NAME} or {file: PATH}, not its value")
        return given

    @model_validator(mode="after")
    def _require_one_reference(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret has exactly one of `env` and `file`")
        return self

    def reveal(self) -> str:
        """Return the value the reference points to.

        Raises: ConfigError when the variable is not set or the file can't be read.
        """
        if self.env is not None:
            return _read_variable(self.env)
        return _read_secret_file(str(self.file))

    def __repr__(self) -> str:
        place = f"env: {self.env}" if self.env is not None else f"file: {self.file}"
        return f"Secret({place}, value: ****)"

    __str__ = __repr__


def _read_variable(name: str) -> str:
    value = os.environ.get(name)
    if value is None:
        raise ConfigError(
            f"secret {{env: {name}}}",
            "the environment variable is not set",
            remedy=f"set {name} in the environment of this process",
        )
    return value


def _read_secret_file(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as cause:
        raise ConfigError(
            f"secret {{file: {path}}}",
            "the file can't be read as text",
            remedy="mount the file, or correct the path or its rights",
        ) from cause


def _as_text(given: object) -> object:
    """YAML turns `true` and `30` into a bool and a number; properties are texts."""
    if isinstance(given, bool):
        return str(given).lower()
    return str(given) if isinstance(given, (int, float)) else given


def _text_or_reference(given: object) -> object:
    # Decided here, so that pydantic doesn't report each branch of a union as a problem of its own.
    if isinstance(given, (Mapping, Secret)):
        return Secret.model_validate(given)
    given = _as_text(given)
    if not isinstance(given, str):
        raise ValueError("a property is a text, or a secret: {env: NAME} or {file: PATH}")
    return given


Text = Annotated[str, BeforeValidator(_as_text)]
TextOrSecret = Annotated[str | Secret, BeforeValidator(_text_or_reference)]
Properties = dict[str, TextOrSecret]


def revealed(properties: Mapping[str, str | Secret]) -> dict[str, str]:
    """Return the properties with each secret replaced by its value.

    Raises: ConfigError when a referenced variable or file is missing.
    """
    return {
        key: value.reveal() if isinstance(value, Secret) else value
        for key, value in properties.items()
    }
