"""Published rows with what made them: weights, recipe, and whether a run of ours followed it."""

import json
import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from clue_baselines.data import OFFICIAL
from clue_baselines.finished import Run
from clue_baselines.report.published import Row, named
from clue_baselines.settings import SHIPPED, Settings, parse
from clue_baselines.tasks import task_class

CONTENT = json.loads((Path(__file__).parent.parent / "reproduce.json").read_text(encoding="utf-8"))
USEFUL_FLOPS = 30e12  # per second: about what one card of 24 to 40 GB gives in mixed precision
# What no recipe asks for: where weights and data lie; `notes_on` counts the rows.
NOT_OF_A_RECIPE = ("model", "data", "limit", "deterministic")


@dataclass(frozen=True)
class Known:
    """A published row that can be reproduced, or why it cannot.

    model, flags, tasks: weights, and the flags of all tasks and of each.
    millions: parameters of the layers, without embeddings.
    """

    name: str
    row: Row
    lacking: str = ""
    model: str = ""
    flags: tuple[str, ...] = ()
    tasks: dict[str, list[str]] | None = None
    millions: int = 0

    def has_recipe(self, task: str) -> bool:
        """Whether it is known how a task's score was made."""
        return not self.lacking and (self.tasks is None or task in self.tasks)

    def command_flags(self, task: str) -> list[str]:
        """The flags of a task's script."""
        own = self.tasks.get(task, []) if self.tasks else []
        return ["--model", self.model, *self.flags, *own]

    def settings(self, task: str) -> Settings:
        """What a task's script makes of its flags."""
        kind = task_class(task)
        return parse(kind.options, task, "", kind.defaults, self.command_flags(task))

    def departure(self, made: Run) -> str:
        """In what a run did not follow the recipe; empty if it did.

        Weights and data may lie anywhere: what a folder holds is taken on trust.
        """
        # these import Keras, which other reports do without
        from clue_baselines import run
        from clue_baselines.backbone import is_pretrained

        if not self.has_recipe(made.task):
            return self.lacking or f"{self.name} has no recipe for {made.task}"
        wanted, stored = self.settings(made.task), made.settings["settings"]
        model = stored.get("model", self.model)
        if model == SHIPPED or not is_pretrained(model):
            return f"trained from {model}, not from {self.model}"
        if made.result["epochs"] != wanted.epochs:  # which --resume can change
            return f"trained for {made.result['epochs']} epochs, not {wanted.epochs}"
        seen = {key: stored[key] for key in NOT_OF_A_RECIPE if key in stored}
        other = run.other_setting(replace(wanted, **seen), stored)
        return other and f"trained {other}"

    def hours(self, task: str) -> float:
        """GPU hours of one seed, estimated.

        Training takes 6 floating-point operations per parameter and token, predicting dev after
        every epoch and the tests 2; a card does `USEFUL_FLOPS` of them per second.
        """
        settings = self.settings(task)
        rows, tokens = CONTENT["tokens"][task]
        counts = OFFICIAL[task]
        read = sum(n for split, n in counts.items() if split not in ("train", "dev"))
        passes = 6 * counts["train"] * settings.epochs + 2 * (
            counts["dev"] * settings.epochs + read
        )
        return passes * rows * tokens * self.millions * 1e6 / USEFUL_FLOPS / 3600


def known(name: str) -> Known:
    """The row of that name.

    Raises:
        DataError: there is none.
    """
    row, entry = named(name), CONTENT["rows"].get(name)
    if "lacking" in entry:
        return Known(name, row, entry["lacking"])
    recipe = CONTENT["recipes"][entry["recipe"]]
    tasks, own = recipe.get("tasks"), entry.get("tasks", {})  # later flags win
    tasks = tasks and {t: shlex.split(f"{flags} {own.get(t, '')}") for t, flags in tasks.items()}
    return Known(name, row, "", entry["model"], tuple(recipe["flags"]), tasks, entry["millions"])
