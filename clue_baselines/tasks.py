"""The eleven tasks by name; a task's script is imported when it is asked for."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from clue_baselines.data import DataError

if TYPE_CHECKING:
    from clue_baselines.task import Task

TASKS = (
    "tnews", "iflytek", "afqmc", "ocnli", "cmnli", "wsc", "csl",
    "cluener", "cmrc2018", "chid", "c3",
)  # fmt: skip


def chosen(names: list[str]) -> list[str]:
    """Names of tasks as given, "all" standing for all of them.

    Raises:
        DataError: a name is none of a task.

    >>> chosen(["c3", "tnews", "c3"])
    ['c3', 'tnews']
    """
    unknown = [name for name in names if name not in (*TASKS, "all")]
    if unknown:
        raise DataError(f"There is no task {unknown[0]!r}; the tasks are {', '.join(TASKS)}.")
    return list(TASKS) if "all" in names else list(dict.fromkeys(names))


def task_class(name: str) -> type[Task]:
    """The class in the script of that name."""
    module = importlib.import_module(f"clue_baselines.{name}")
    classes = (value for value in vars(module).values() if isinstance(value, type))
    return next(kind for kind in classes if getattr(kind, "name", "") == name)
