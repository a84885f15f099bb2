"""The database: tables, migrations, roles, connections, locks."""
