"""A row becomes a record by position: columns and fields must be the same names in the same order."""

import pytest
from msgspec import Struct
from sqlalchemy import Table

from llmwise.domain.records import AttemptRecord, LedgerEntry, RequestRecord
from llmwise.storage import tables
from llmwise.storage.rows import KeyRow


@pytest.mark.parametrize(
    ("table", "record"),
    [
        (tables.requests, RequestRecord),
        (tables.attempts, AttemptRecord),
        (tables.ledger, LedgerEntry),
        (tables.keys, KeyRow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_columns_are_the_fields_of_the_record_in_order(table: Table, record: type[Struct]) -> None:
    fields = record.__struct_fields__
    if table is tables.requests:
        assert fields[-2:] == ("insight", "byok")
        fields = (*fields[:-2], *tables.LONE, "insight", "byok")
    assert tuple(table.c.keys()) == fields


@pytest.mark.parametrize(
    ("table", "record"),
    [
        (tables.requests, RequestRecord),
        (tables.attempts, AttemptRecord),
        (tables.ledger, LedgerEntry),
        (tables.keys, KeyRow),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_column_is_nullable_exactly_when_the_field_may_be_none(table: Table, record: type[Struct]) -> None:
    may_be_none = {name for name, kind in record.__annotations__.items() if "None" in str(kind)}
    if table is tables.requests:
        may_be_none |= {*tables.LONE}
    assert {column.name for column in table.c if column.nullable} == may_be_none
