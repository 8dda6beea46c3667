"""What is noted during a step beside the weights: batch normalization's statistics and the like.

Every replica writes its own copy of such a variable. Here the copies stay equal: after a step each
holds its value before the step plus the mean of all changes, weighted by the replicas' rows. A step
that is to be left out leaves them as they were.
"""

import tensorflow as tf


def noted_by_layers(model) -> list:
    """The floating variables that the model's layers write themselves."""
    layers = model._flatten_layers()
    variables = [variable for layer in layers for variable in layer._non_trainable_variables]
    floating = [variable for variable in variables if "float" in variable.dtype]
    return list({id(variable): variable for variable in floating}.values())


class Noted:
    """Variables, with their values before the step."""

    def __init__(self, variables: list):
        self.variables = variables
        self.before = [tf.identity(variable.value) for variable in variables]

    def changes(self) -> list:
        """How far the step moved each variable."""
        pairs = zip(self.variables, self.before, strict=True)
        return [variable.value - before for variable, before in pairs]

    def move(self, changes: list):
        """Moves the variables from where they were by these changes."""
        for variable, before, change in zip(self.variables, self.before, changes, strict=True):
            variable.assign(before + change)

    def go_back(self, stays):
        """Gives the variables the values of before unless they are to stay."""
        for variable, before in zip(self.variables, self.before, strict=True):
            variable.assign(tf.where(stays, variable.value, before))
