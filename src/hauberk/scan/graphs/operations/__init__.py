"""What operators make of their inputs and what that costs: one rule for each operator, a file for each family."""

from hauberk.scan.graphs.operations import (  # noqa: F401 - importing them registers their rules
    arithmetic,
    creation,
    elementwise,
    learning,
    linear,
    movement,
    picking,
    recurrent,
    reduction,
    resizing,
    sequences,
)
