"""What a program of one's own may hang into a running pipeline: transforms, and a look at each batch."""

from __future__ import annotations

import importlib
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pyspark.sql import DataFrame

from cdc_sink.config import Target
from cdc_sink.errors import ConfigError, StateError

Transform = Callable[[DataFrame], DataFrame]


@dataclass(frozen=True)
class AppliedBatch:
    """A batch that is committed.

    `counters`: records by what became of them, keys by what was done to them, and `newest_source_ts_ms`; none
    where nothing in the batch could change the table. A batch that a killed driver had committed comes again
    with counters of 0.
    """

    table: str
    batch_id: int
    seconds: float
    counters: Mapping[str, object]


OnBatch = Callable[[AppliedBatch], None]


@dataclass(frozen=True)
class Hooks:
    """What was given in code. `transforms` are by table, its target or its topic."""

    transforms: Mapping[str, Transform] = field(default_factory=dict)
    on_batch: OnBatch | None = None

    def transform_of(self, target: Target) -> Transform | None:
        """The transform of a table: the one given in code, or the configuration's `transform`.

        Raises: ConfigError when there is no such function.
        """
        for name in (target.table.name, target.table.topic):
            if name in self.transforms:
                return self.transforms[name]
        return _imported(target) if target.table.transform else None

    def tell(self, batch: AppliedBatch) -> None:
        """Call `on_batch`.

        Raises: StateError when it raises; the batch is committed.
        """
        if self.on_batch is None:
            return
        try:
            self.on_batch(batch)
        except Exception as raised:  # foreign code may raise anything
            raise StateError(
                batch.table,
                f"`on_batch` raised {named(raised)}",
                data=f"batch {batch.batch_id} is committed, and comes no second time",
                remedy="correct the function, then start the pipeline again",
            ) from raised


NO_HOOKS = Hooks()


def named(raised: Exception) -> str:
    """An exception of foreign code by its class, and where it was raised: its text may hold values."""
    place = traceback.extract_tb(raised.__traceback__)[-1]
    return f"{type(raised).__name__} in {place.filename} line {place.lineno}"


def _imported(target: Target) -> Transform:
    module, _, name = str(target.table.transform).partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except Exception as raised:  # foreign code may raise anything
        raise ConfigError(
            target.name,
            f"the transform {module}:{name} can't be imported ({named(raised)})",
            data="the table was not started",
            remedy="correct `transform`, or put its module on the driver's PYTHONPATH",
        ) from raised
    if not callable(found):
        raise ConfigError(
            target.name,
            f"the transform {module}:{name} is no function",
            data="the table was not started",
            remedy="name a function of one DataFrame in `transform`",
        )
    return found  # type: ignore[no-any-return]
