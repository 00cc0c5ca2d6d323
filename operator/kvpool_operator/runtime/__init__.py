"""The operator as a process in a cluster: kopf watches, `kvpool_operator.loop` does the work."""
