"""For how long an API that does not answer is asked again."""

PATIENCE_S = 300.0
"""By what follows a job."""

BRIEF_PATIENCE_S = 30.0
"""By one question: a restart is outlasted, a wrong address is told soon."""
