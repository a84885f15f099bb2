"""API keys against a real PostgreSQL."""

import pytest
from sqlalchemy import text

from pixcrawler.common import keys
from pixcrawler.common.db.engine import connect
from pixcrawler.common.keys import Scope


async def test_a_key_lives_and_ends(module_database: str) -> None:
    """A key is verified until it is revoked; its secret is stored nowhere."""
    engine = connect(module_database)
    async with engine.begin() as connection:
        created = await keys.create(connection, "ann", "write")
    assert created.text.startswith(f"pxc_{created.key.key_id}_")
    async with engine.begin() as connection:
        assert await keys.verify(connection, created.text) == created.key
        await keys.mark_used(connection, created.key.key_id)
        used = await keys.verify(connection, created.text)
        assert used is not None
        assert used.last_used_at is not None
        stored = await connection.scalar(text("SELECT string_agg(k::text, '') FROM api_keys k"))
        assert created.text.rpartition("_")[2] not in str(stored)
        assert await keys.revoke(connection, created.key.key_id)
        assert await keys.revoke(connection, created.key.key_id)
        assert await keys.verify(connection, created.text) is None
        assert not await keys.revoke(connection, "nobody")
        listed = await keys.list_keys(connection, "ann")
    assert [key.key_id for key in listed] == [created.key.key_id]
    assert listed[0].revoked_at is not None
    await engine.dispose()


@pytest.mark.parametrize(
    "wrong", ["", "x", "pxc_", "pxc_0_0", "pxc_zz_zz", f"pxc_{'0' * 12}_{'0' * 48}", "pxc_\0_1"]
)
async def test_what_is_no_key(module_database: str, wrong: str) -> None:
    """Any other text is no key, and no error."""
    engine = connect(module_database)
    async with engine.connect() as connection:
        assert await keys.verify(connection, wrong) is None
    await engine.dispose()


async def test_another_secret_is_refused(module_database: str) -> None:
    """The id alone opens nothing."""
    engine = connect(module_database)
    async with engine.begin() as connection:
        created = await keys.create(connection, "bob", "admin")
        other = created.text[:-48] + "0" * 48
        assert await keys.verify(connection, other) is None
        with pytest.raises(ValueError, match="owner"):
            await keys.create(connection, " ", "read")
        with pytest.raises(ValueError, match="root"):
            await keys.create(connection, "bob", "root")
    await engine.dispose()


def test_scopes_include_lesser_ones() -> None:
    """read < write < admin."""
    allowed = [[have.allows(need) for need in Scope] for have in Scope]
    assert allowed == [[True, False, False], [True, True, False], [True, True, True]]
