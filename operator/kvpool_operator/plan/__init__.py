"""What to do next and why: pure, from one observation to a list of actions."""

from kvpool_operator.plan.plan import plan

__all__ = ["plan"]
