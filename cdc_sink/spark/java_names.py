"""Names of Java classes, each looked up once.

Py4J asks the JVM for each part of a dotted name whenever the name is used. For a name that PySpark imported
it tries package after package, and a class that is not there is searched for in every jar. A small batch asks
hundreds of times: a tenth of its processor time went into that.
"""

from __future__ import annotations

from typing import Any

from py4j.java_gateway import JavaClass, JavaMember, JavaPackage, JVMView
from pyspark.sql import SparkSession


class _View(JVMView):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        return _kept(self, name, super().__getattr__(name))


class _Package(JavaPackage):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        return _kept(self, name, super().__getattr__(name))


class _Class(JavaClass):  # type: ignore[misc]
    def __getattr__(self, name: str) -> Any:
        return _kept(self, name, super().__getattr__(name))


def _kept(holder: Any, name: str, found: Any) -> Any:
    """What a name stands for; kept in the holder, where it can't become another thing.

    A static field may get another value. A name of no class is a package to Py4J, and a jar that comes later
    may have the class.
    """
    if type(found) is JavaPackage:
        found = _Package(found._fqn, found._gateway_client, found._jvm_id)
        if not name.islower():
            return found
    elif type(found) is JavaClass:
        found = _Class(found._fqn, found._gateway_client)
    elif not isinstance(found, JavaMember):
        return found
    holder.__dict__[name] = found
    return found


def remember_names(spark: SparkSession) -> None:
    """Let Java names be looked up once in this process; once more changes nothing.

    PySpark has one view of the JVM, and hands it to all its own code; so its class is changed, not replaced.
    """
    jvm: Any = spark._jvm
    jvm.__class__ = _View
