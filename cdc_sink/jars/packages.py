"""Which packages a configuration needs, and by which class each is known. Asks nobody.

The only place that names the jars of the product: Spark fetches them by these coordinates, and the lock has
them with their checksums.
"""

from __future__ import annotations

from dataclasses import dataclass

from cdc_sink import config

# A file system of Hadoop's has to be of the release that Spark brings along.
_SPARK, _HADOOP, _ICEBERG = "4.1.1", "3.4.2", "1.12.0"


@dataclass(frozen=True)
class JarPackage:
    """A jar with what it needs. `group`: its name in the lock; `class_name`: a class that it alone has."""

    group: str
    coordinate: str
    class_name: str


ALWAYS = (
    JarPackage(
        "spark",
        f"org.apache.iceberg:iceberg-spark-runtime-4.1_2.13:{_ICEBERG}",
        "org.apache.iceberg.spark.SparkCatalog",
    ),
    JarPackage(
        "spark",
        f"org.apache.spark:spark-sql-kafka-0-10_2.13:{_SPARK}",
        "org.apache.spark.sql.kafka010.KafkaSourceProvider",
    ),
    JarPackage(
        "spark",
        f"org.apache.spark:spark-avro_2.13:{_SPARK}",
        "org.apache.spark.sql.avro.AvroDataToCatalyst",
    ),
)
SQLITE = JarPackage("sqlite", "org.xerial:sqlite-jdbc:3.54.1.0", "org.sqlite.JDBC")
POSTGRESQL = JarPackage("postgresql", "org.postgresql:postgresql:42.7.7", "org.postgresql.Driver")
AWS = JarPackage(
    "aws",
    f"org.apache.iceberg:iceberg-aws-bundle:{_ICEBERG}",
    "software.amazon.awssdk.services.glue.GlueClient",
)
S3A = JarPackage(
    "s3a",
    f"org.apache.hadoop:hadoop-aws:{_HADOOP}",
    "org.apache.hadoop.fs.s3a.S3AFileSystem",
)
_S3 = ("s3://", "s3a://", "s3n://")


def packages_of(pipeline: config.Pipeline) -> tuple[JarPackage, ...]:
    """Return what the pipeline's catalog, warehouse and checkpoints need, each once."""
    catalog = pipeline.catalog
    needed = list(ALWAYS)
    if catalog.type == "jdbc":
        needed.append(SQLITE if str(catalog.uri).startswith("jdbc:sqlite:") else POSTGRESQL)
    if catalog.type == "glue" or _uses_s3_file_io(catalog):
        needed.append(AWS)
    if _uses_s3a(pipeline):
        needed.append(S3A)
    return tuple(needed)


def groups_of(pipeline: config.Pipeline) -> tuple[str, ...]:
    """Return the groups of the lock that have them."""
    return tuple(dict.fromkeys(one.group for one in packages_of(pipeline)))


@dataclass(frozen=True)
class Unreadable:
    """An address that no package above can read. `class_name`: the file system that would."""

    key: str
    scheme: str
    class_name: str
    is_certain: bool  # else the user may have added it


_FILE_SYSTEMS = {
    "gs": "com.google.cloud.hadoop.fs.gcs.GoogleHadoopFileSystem",
    "abfs": "org.apache.hadoop.fs.azurebfs.AzureBlobFileSystem",
    "abfss": "org.apache.hadoop.fs.azurebfs.SecureAzureBlobFileSystem",
    "oss": "org.apache.hadoop.fs.aliyun.oss.AliyunOSSFileSystem",
    "s3": "org.apache.hadoop.fs.s3a.S3AFileSystem",
    "s3n": "org.apache.hadoop.fs.s3a.S3AFileSystem",
}


def without_package(pipeline: config.Pipeline) -> tuple[Unreadable, ...]:
    """Return the addresses that Hadoop's file systems are to read, and none of the packages can."""
    conf = pipeline.spark.conf
    adds_own = bool({"spark.jars", "spark.jars.packages"} & conf.keys())
    found = []
    for key, place in _hadoop_places(pipeline).items():
        scheme = place.partition(":")[0]
        mapped = f"spark.hadoop.fs.{scheme}.impl" in conf
        if (
            scheme in _FILE_SYSTEMS
            and not mapped
            and not (adds_own and scheme not in ("s3", "s3n"))
        ):
            found.append(Unreadable(key, scheme, _FILE_SYSTEMS[scheme], scheme in ("s3", "s3n")))
    return tuple(found)


def _hadoop_places(pipeline: config.Pipeline) -> dict[str, str]:
    """Addresses by their keys: Hadoop's file systems read the checkpoints, and tables without `io-impl`."""
    catalog, places = pipeline.catalog, {"checkpoints": pipeline.checkpoints}
    if "io-impl" not in catalog.properties and catalog.type in ("jdbc", "hive", "hadoop"):
        places["catalog.warehouse"] = catalog.warehouse or ""
    return places


def _uses_s3_file_io(catalog: config.Catalog) -> bool:
    io = str(catalog.properties.get("io-impl", ""))
    return io.endswith("S3FileIO") or (catalog.type == "rest" and _is_on_s3(catalog.warehouse))


def _uses_s3a(pipeline: config.Pipeline) -> bool:
    """Hadoop's file system for S3, which only knows addresses that begin with s3a://."""
    return any(place.startswith("s3a://") for place in _hadoop_places(pipeline).values())


def _is_on_s3(location: str | None) -> bool:
    return location is not None and location.startswith(_S3)
