"""Checks of numbers that users give: a bad one raises an error that says what is wanted."""

import numbers


def require(condition: bool, setting: str, wanted: str, value) -> None:
    """Raise a ValueError that says what `setting` must be unless `condition` holds."""
    if not condition:
        raise ValueError(f"{setting} must be {wanted}, but got {value!r}.")


def whole_number(value, setting: str, least: int = 1) -> int:
    """`value` as an integer of at least `least`; it may be a float such as 3.0."""
    whole = isinstance(value, numbers.Real) and value % 1 == 0 and value >= least
    require(whole, setting, f"an integer of at least {least}", value)
    return int(value)
