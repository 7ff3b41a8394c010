"""Spark's standalone cluster in the chain: a master and two workers of one core and 1 GB each."""

from __future__ import annotations

import importlib.util
import json
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from cdc_sink.demo.chain.hosting.ports import HOST
from cdc_sink.demo.chain.hosting.process import Launch
from cdc_sink.demo.chain.hosting.service import answers
from cdc_sink.errors import ConfigError
from cdc_sink.jars.java import require_java

_LEAN = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"


@dataclass(frozen=True)
class SparkMaster:
    """The master, to which jobs connect."""

    folder: Path
    port: int
    ui_port: int
    name: str = "spark-master"

    @property
    def endpoint(self) -> str:
        """The master URL."""
        return f"spark://{HOST}:{self.port}"

    def prepare(self) -> None:
        """Nothing but a folder."""
        self.folder.mkdir(exist_ok=True)

    def launch(self) -> Launch:
        """Without recovery: a restarted master learns its workers from themselves."""
        args = ("--host", HOST, "--port", str(self.port), "--webui-port", str(self.ui_port))
        return _launch("org.apache.spark.deploy.master.Master", args, self.folder)

    def is_ready(self) -> bool:
        """True when it answers as the living master."""
        return answers(f"http://{HOST}:{self.ui_port}/json/")


@dataclass(frozen=True)
class SparkWorker:
    """One worker."""

    folder: Path
    name: str
    ui_port: int
    master: SparkMaster

    @property
    def endpoint(self) -> str:
        """Its page, which says where its executors log."""
        return f"http://{HOST}:{self.ui_port}"

    def prepare(self) -> None:
        """Nothing but a folder, in which executors work and log."""
        self.folder.mkdir(exist_ok=True)

    def launch(self) -> Launch:
        """One core, 1 GB for executors."""
        size = ("--cores", "1", "--memory", "1g")
        args = (*size, "--host", HOST, "--webui-port", str(self.ui_port), "-d", str(self.folder))
        main = "org.apache.spark.deploy.worker.Worker"
        return _launch(main, (*args, self.master.endpoint), self.folder)

    def is_ready(self) -> bool:
        """True when the master counts it among the living."""
        page = f"http://{HOST}:{self.master.ui_port}/json/"
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(page, timeout=5) as answer:
                workers = json.load(answer)["workers"]
        except (OSError, ValueError, KeyError):
            return False
        return any(
            worker["webuiaddress"].endswith(f":{self.ui_port}") and worker["state"] == "ALIVE"
            for worker in workers
        )


def _launch(main: str, args: tuple[str, ...], folder: Path) -> Launch:
    environment = {
        "SPARK_HOME": str(_spark_home()),
        "SPARK_LOCAL_IP": HOST,
        "SPARK_PUBLIC_DNS": HOST,
        "SPARK_DAEMON_MEMORY": "192m",
        "SPARK_DAEMON_JAVA_OPTS": _LEAN,
        # spark-class takes its Java from here only or from PATH; ours was checked.
        "JAVA_HOME": str(require_java().resolve().parents[1]),
    }
    command = (str(_spark_home() / "bin" / "spark-class"), main, *args)
    return Launch(command, folder, environment=environment)


def _spark_home() -> Path:
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise ConfigError(
            "chain: spark",
            "pyspark is not installed",
            data="nothing was started",
            remedy="pip install 'cdc-sink[spark]'",
        )
    return Path(spec.origin).parent
