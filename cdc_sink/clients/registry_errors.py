"""What a registry's answers come to as errors of ours, whichever of its APIs was asked."""

from __future__ import annotations

import ssl

from cdc_sink.errors import CdcSinkError, ConfigError, SchemaError, UnavailableError


def unavailable(url: str, what: str, saw: str) -> UnavailableError:
    """A silent or broken server is nobody's fault, and is tried again."""
    return UnavailableError(
        f"registry {url}",
        f"{what}: {saw}",
        remedy="start the registry or correct registry.url; the table is tried again by itself",
    )


def unreachable(url: str, what: str, cause: BaseException) -> CdcSinkError:
    """A connection that failed: silence passes, a TLS handshake that is refused does not."""
    if not is_tls(cause):
        return unavailable(url, what, "it can't be reached")
    return ConfigError(
        f"registry {url}",
        f"{what}: the TLS handshake failed",
        remedy="correct registry.url's scheme, port and host name; its certificate must be trusted by this "
        "machine: point SSL_CERT_FILE at the authority's certificate",
    )


def is_tls(cause: BaseException | None) -> bool:
    """Whether TLS is what failed, somewhere in the chain of causes."""
    seen: set[int] = set()
    while cause is not None and id(cause) not in seen:
        if isinstance(cause, ssl.SSLError) or "SSL" in str(cause):
            return True
        seen.add(id(cause))
        cause = cause.__cause__ or cause.__context__
    return False


def user_refused(url: str, what: str, status: int) -> ConfigError:
    """HTTP 401 or 403."""
    return ConfigError(
        f"registry {url}",
        f"{what}: the user is refused (HTTP {status})",
        remedy="correct registry.user and registry.password, or the user's rights",
    )


NO_SCHEMA_REMEDY = (
    "point registry.url at the registry the connector writes to, or restore the deleted schema; if it is "
    "lost, let the connector take a new source snapshot into a new topic, and raise `generation` of the table"
)


def unknown(url: str, what: str) -> SchemaError:
    """The registry answers, and has no such schema."""
    return SchemaError(
        f"registry {url}",
        f"unknown {what}",
        remedy=NO_SCHEMA_REMEDY,
    )
