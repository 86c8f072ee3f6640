"""Facts about this installation, by name: small texts that are neither requests nor keys."""

from sqlalchemy import Connection, delete, insert, select

from llmwise.storage.tables import meta


def meta_value(connection: Connection, name: str) -> str | None:
    return connection.execute(select(meta.c.value).where(meta.c.name == name)).scalar_one_or_none()


def set_meta(connection: Connection, name: str, value: str) -> None:
    """Set or replace."""
    connection.execute(delete(meta).where(meta.c.name == name))
    connection.execute(insert(meta).values(name=name, value=value))
