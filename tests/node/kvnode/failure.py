"""The one error that reaches a person."""


class NodeFailure(Exception):
    """Says what, why and the mend; printed as it is."""
