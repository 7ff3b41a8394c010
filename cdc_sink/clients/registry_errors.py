"""What a registry's answers come to as errors of ours, whichever of its APIs was asked."""

from __future__ import annotations

from cdc_sink.errors import ConfigError, SchemaError, UnavailableError


def unavailable(url: str, what: str, saw: str) -> UnavailableError:
    """A silent or broken server is nobody's fault, and is tried again."""
    return UnavailableError(
        f"registry {url}",
        f"{what}: {saw}",
        remedy="start the registry or correct registry.url; the table is tried again by itself",
    )


def user_refused(url: str, what: str, status: int) -> ConfigError:
    """HTTP 401 or 403."""
    return ConfigError(
        f"registry {url}",
        f"{what}: the user is refused (HTTP {status})",
        remedy="correct registry.user and registry.password, or the user's rights",
    )


def unknown(url: str, what: str) -> SchemaError:
    """The registry answers, and has no such schema."""
    return SchemaError(
        f"registry {url}",
        f"unknown {what}",
        remedy="point registry.url at the registry the connector writes to, or restore the "
        "deleted schema",
    )
