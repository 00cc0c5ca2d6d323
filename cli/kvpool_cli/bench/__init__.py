"""`kvpool bench`: open-loop load, and what came of it."""
