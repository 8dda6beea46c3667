"""Which variables a setting speaks of: regular expressions searched in the variables' paths."""

import re
import warnings
from collections.abc import Sequence


def path_of(variable) -> str:
    """The path of a Keras variable (`dense/kernel`), or the name of a plain `tf.Variable`.

    A factor of low rank has the path of its matrix, so that rules decide on it as on that.
    """
    variable = matrix_of(variable)
    return getattr(variable, "path", None) or variable.name


def matrix_of(variable):
    """The matrix that `variable` is a factor of, under low rank; any other variable itself."""
    return getattr(variable, "factor_of", variable)


def select(variables: Sequence, patterns: Sequence[str], setting: str) -> list[bool]:
    """For each variable, whether any of the patterns is found in its path.

    Args:
        variables: the model's variables.
        patterns: regular expressions, searched (`re.search`) in the paths; `"bias"` finds
            `dense/bias`.
        setting: name of the argument that the patterns came from, for the warning.

    Raises:
        ValueError: if `patterns` is a single string, which would be read letter by letter.

    Warns:
        UserWarning: for each pattern that is found in no path.
    """
    check_patterns(patterns, setting)
    paths = [path_of(variable) for variable in variables]
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            warnings.warn(
                f"The pattern {pattern!r} of `{setting}` matches no variable and has no effect. "
                f"The paths are: {', '.join(paths[:10])}{' ...' if len(paths) > 10 else ''}.",
                stacklevel=2,
            )
    return [any(re.search(pattern, path) for pattern in patterns) for path in paths]


def check_patterns(patterns, setting: str) -> tuple[str, ...]:
    """The patterns as a tuple, after checking that they are a list of regular expressions."""
    if patterns is None:
        return ()
    if isinstance(patterns, str) or not all(isinstance(pattern, str) for pattern in patterns):
        raise ValueError(
            f"`{setting}` is a list of regular expressions such as ['bias', 'Norm'], "
            f"but got {patterns!r}."
        )
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"{pattern!r} of `{setting}` is not a regular expression: {error}."
            ) from None
    return tuple(patterns)
