"""Tricks of a run: their flags, how they are named, and which task takes which.

flag                 what it changes                       where
--r-drop ALPHA       loss: two passes must agree           cross-entropies
--tailr GAMMA        loss: improbable targets press less   cross-entropies
--logit-adjustment   loss: frequent classes count less     classification
--fgm EPSILON        step: also trains on worst inputs     all tasks (TensorFlow)
--gradient-penalty   step: small gradients of inputs       all tasks (TensorFlow)
--can                predictions: unsure ones by prior     classification

They go together, but for those that would do the same thing twice. What they do is in
`trained.py`, and of those of the optimizer (ema, child_tuning, lookahead) in `recipes.py`.
"""

import dataclasses
from collections.abc import Sequence

from clue_baselines.data import DataError
from clue_baselines.settings import Settings

# The tricks with the strength that `run --tricks NAME` takes, as their authors recommend it.
STRENGTHS = {
    "r_drop": 4.0,
    "fgm": 0.5,
    "gradient_penalty": 1.0,
    "can": True,
    "logit_adjustment": 1.0,
    "tailr": 0.1,
    "ema": 0.999,
    "child_tuning": 0.3,
    "lookahead": True,
}
OF_A_STEP = ("fgm", "gradient_penalty")
OF_A_CROSS_ENTROPY = ("r_drop", "tailr")
OF_CLASSES = ("logit_adjustment", "can")
ALL = (*OF_A_STEP, *OF_A_CROSS_ENTROPY, *OF_CLASSES)
NEEDS = {
    "r_drop": "a cross-entropy over the outputs of each example",
    "tailr": "a cross-entropy over the outputs of each example",
    "logit_adjustment": "classes that are the same in every example",
    "can": "classes that are the same in every example",
}
EXCLUSIVE = (
    ("fgm", "gradient_penalty", "both smooth the loss around the embeddings"),
    ("tailr", "logit_adjustment", "both take the place of the cross-entropy"),
    ("can", "logit_adjustment", "one adds the classes' prior, the other takes it away"),
)


class NotForThisTask(DataError):
    """A trick that a task has no use for."""


def check(task_name: str, takes: Sequence[str], settings: Settings):
    """Complains about a trick that the task has no use for, or two that exclude each other.

    Raises:
        NotForThisTask, DataError: one sentence that says which and why.
    """
    for name in ALL:
        if getattr(settings, name) and name not in takes:
            raise NotForThisTask(f"{flag(name)} is not for {task_name}: it needs {NEEDS[name]}.")
    for first, second, why in EXCLUSIVE:
        if getattr(settings, first) and getattr(settings, second):
            raise DataError(f"{flag(first)} and {flag(second)} exclude each other: {why}.")


def flag(name: str) -> str:
    """The command-line flag of a setting.

    >>> flag("r_drop")
    '--r-drop'
    """
    return "--" + name.replace("_", "-")


def label(settings: Settings | dict) -> str:
    """The tricks of a run in short, for the names of its folder and row; empty without any.

    >>> label(Settings(r_drop=4.0, can=True))
    'r-drop4+can'
    """
    values = settings if isinstance(settings, dict) else dataclasses.asdict(settings)
    used = [(name.replace("_", "-"), values.get(name)) for name in STRENGTHS]
    return "+".join(n if value is True else f"{n}{value:g}" for n, value in used if value)


def flags_of(text: str) -> list[str]:
    """Flags of tricks as `run --tricks` names them: NAME or NAME=VALUE, joined by +, or none.

    Raises:
        DataError: there is no trick of that name, or its value is no number.

    >>> flags_of("r-drop+fgm=0.2+can"), flags_of("none")
    (['--r-drop', '4', '--fgm', '0.2', '--can'], [])
    """
    flags = []
    for part in [] if text == "none" else text.split("+"):
        name, _, value = part.partition("=")
        strength = STRENGTHS.get(name.replace("-", "_"))
        if strength is None:
            known = ", ".join(known.replace("_", "-") for known in STRENGTHS)
            raise DataError(f"There is no trick {name!r}; the tricks are none, {known}.")
        if strength is True and value:
            raise DataError(f"The trick {name} has no strength; leave out ={value}.")
        try:
            given = [] if strength is True else [f"{float(value or strength):g}"]
        except ValueError:
            raise DataError(f"{part}: the strength of a trick is a number.") from None
        if given == ["0"]:
            raise DataError(f"{part}: a trick of strength 0 is none.")
        flags += [flag(name), *given]
    return flags
