"""`kvpool up`: the operator's own loop against a cluster of child processes on this machine."""
