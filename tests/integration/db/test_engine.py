"""Connections as every service makes them."""

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from pixcrawler.common.db.engine import connect


async def test_an_error_quotes_no_value(empty_database: str) -> None:
    """Errors are logged, and a value may be a secret: of a webhook, of a key."""
    engine = connect(empty_database)
    try:
        with pytest.raises(DBAPIError, match="division by zero") as raised:
            async with engine.connect() as connection:
                await connection.execute(
                    text("SELECT CAST(:secret AS text), 1 / CAST(:zero AS integer)"),
                    {"secret": "whsec-of-somebody", "zero": 0},
                )
    finally:
        await engine.dispose()
    assert "SELECT" in str(raised.value)
    assert "whsec-of-somebody" not in f"{raised.value} {raised.value!r}"
