"""The tables, in SQLAlchemy Core. Columns of `requests`, `attempts` and `keys` are the fields of `RequestRecord`,
`AttemptRecord` and `KeyRow`, in their order: a row becomes a record by position, and a test holds them together.

Times are Unix milliseconds, money is nano-USD, both in 64 bits. A change here needs a migration and a new
`schema.HEAD`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

metadata = MetaData()

requests = Table(
    "requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("key_id", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("mode", Text, nullable=False),
    Column("dialect", Text, nullable=False),
    Column("stream", Boolean, nullable=False),
    Column("requested_model", Text, nullable=False),
    Column("model", Text),
    Column("provider", Text),
    Column("status", Integer, nullable=False),
    Column("code", Text),
    Column("finish_reason", Text),
    Column("attempts", Integer, nullable=False),
    Column("latency_ms", BigInteger, nullable=False),
    Column("ttft_ms", BigInteger),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("task_type", Text),
    Column("confidence", Float),
    Column("auto_strategy", Text),
    Column("goal", Text),
    Column("conversation_id", Text),
    Column("route", Text),
    Column("warnings", Text),
    Column("prompt", Text),
    Column("answer", Text),
    # The two ways in which history and usage are read: one key's time window, and everybody's. No more: each index
    # costs about 1 µs of every request.
    Index("requests_by_key", "key_id", "created_at_ms"),
    Index("requests_by_time", "created_at_ms"),
)

# An attempt's id is its request's id and its number, so that the pair is the key: it finds all attempts of a request
# without an index of its own on `request_id`.
attempts = Table(
    "attempts",
    metadata,
    Column("id", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("number", Integer, nullable=False),
    Column("model", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("sent_model", Text, nullable=False),
    Column("answered_model", Text),
    Column("outcome", Text, nullable=False),
    Column("code", Text),
    Column("upstream_status", Integer),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("latency_ms", BigInteger, nullable=False),
    Column("ttft_ms", BigInteger),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_estimated", Boolean, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("finish_reason", Text),
    PrimaryKeyConstraint("request_id", "number", name="attempts_pk"),
)

keys = Table(
    "keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("prefix", Text, nullable=False),
    Column("admin", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("revoked_at_ms", BigInteger),
    Column("settings", Text),
    Index("keys_by_hash", "hash", unique=True),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
