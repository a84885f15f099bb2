"""A discrete-event simulation of the pipeline: what it would do at a scale that nobody has here."""
