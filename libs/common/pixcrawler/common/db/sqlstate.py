"""PostgreSQL's words for what went wrong (appendix A of its documentation)."""


def sqlstate(error: BaseException) -> str:
    """The five characters of an error of the database, "" for any other.

    SQLAlchemy wraps asyncpg's errors, but not those of the very first connection.
    """
    return str(getattr(getattr(error, "orig", error), "sqlstate", None) or "")
