"""The schema registry of the chain: Apicurio with the Confluent API, kept in a file.

Apicurio does not check compatibility until it is told to: BACKWARD is set, as Confluent's default
is. The database is a file because a registry that forgets its schemas when it is killed would make
every record unreadable, which no real registry does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from cdc_sink.demo.chain.hosting import cache
from cdc_sink.demo.chain.hosting.ports import HOST
from cdc_sink.demo.chain.hosting.process import Launch
from cdc_sink.demo.chain.hosting.service import answers, java_launch


@dataclass(frozen=True)
class RegistryServer:
    """Apicurio Registry 2.6."""

    folder: Path
    port: int
    name: str = "registry"

    @property
    def endpoint(self) -> str:
        """The Confluent-compatible API."""
        return f"http://{HOST}:{self.port}/apis/ccompat/v7"

    @property
    def native_url(self) -> str:
        """Apicurio's own API, which its Avro converter speaks."""
        return f"http://{HOST}:{self.port}/apis/registry/v2"

    def prepare(self) -> None:
        """Unpack the server once."""
        self.folder.mkdir(exist_ok=True)
        cache.unpacked("registry")

    def launch(self) -> Launch:
        """Run it on its Quarkus main class; see the class for the file."""
        unpacked = cache.unpacked("registry")
        jars = [*unpacked.glob("*-runner.jar"), *sorted((unpacked / "lib").glob("*.jar"))]
        flags = (
            f"-Dquarkus.http.host={HOST}",
            f"-Dquarkus.http.port={self.port}",
            "-Dquarkus.datasource.jdbc.initial-size=2",
            "-Dquarkus.datasource.jdbc.min-size=1",
        )
        database = f"jdbc:h2:file:{self.folder / 'schemas'};DB_CLOSE_ON_EXIT=FALSE"
        main = "io.quarkus.runner.GeneratedMain"
        launch = java_launch(self.folder, jars, main, heap_mb=256, flags=flags)
        environment = {**launch.environment, "REGISTRY_DATASOURCE_URL": database}
        return replace(launch, environment=environment)

    def is_ready(self) -> bool:
        """True when it took the compatibility rule, which also proves that it can write."""
        return answers(f"{self.endpoint}/config", put=b'{"compatibility": "BACKWARD"}')
