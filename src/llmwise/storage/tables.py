"""The tables, in SQLAlchemy Core. Columns of `requests`, `attempts`, `ledger` and `keys` are the fields of
`RequestRecord`, `AttemptRecord`, `LedgerEntry` and `KeyRow`, in their order: a row becomes a record by position, and a
test holds them together. `requests` has six columns more, before the last of those (which came later): see `LONE`.

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
    false,
    text,
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
    Column("sent_model", Text),
    Column("answered_model", Text),
    Column("outcome", Text),
    Column("upstream_status", Integer),
    Column("attempt_started_at_ms", BigInteger),
    Column("attempt_latency_ms", BigInteger),
    Column("insight", Text),
    Column("byok", Boolean, nullable=False, server_default=false()),
    # One key's time window, and its pages with their order, so that a deep one reads nothing else. Everybody's are read
    # by the ids, which begin with the time. No more: each index costs about 1 µs of every request.
    Index("requests_by_key", "key_id", "created_at_ms", "id"),
    # Only of requests that belong to a conversation: others don't pay for it.
    Index(
        "requests_by_conversation",
        "conversation_id",
        "created_at_ms",
        sqlite_where=text("conversation_id IS NOT NULL"),
    ),
    # Pages of one mode, of a key or of everybody, told by the index alone. Nearly all requests are of the mode `chat`,
    # and are found without it.
    Index(
        "requests_by_mode",
        "mode",
        "id",
        "key_id",
        "created_at_ms",
        sqlite_where=text("mode <> 'chat'"),
    ),
)

LONE = ("sent_model", "answered_model", "outcome", "upstream_status", "attempt_started_at_ms", "attempt_latency_ms")
"""What the only attempt of a request says beyond the request's own columns; all null when the request had none, or has
its attempts in `attempts`. Nearly all requests have one attempt, and a row costs more than a column."""

# Requests with several attempts, and attempts that their request's row can't tell whole. An attempt's id is its
# request's id and its number, so that the pair is the key: it finds all attempts of a request without an index of its
# own on `request_id`.
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
    Column("byok", Boolean, nullable=False, server_default=false()),
    PrimaryKeyConstraint("request_id", "number", name="attempts_pk"),
)

# Credit that moved (`LedgerEntry`): only ever added to. A balance is the sum over an account, and the index holds all
# that the sum needs.
ledger = Table(
    "ledger",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("key_id", Text),
    Column("request_id", Text),
    Column("kind", Text, nullable=False),
    Column("amount_nanousd", BigInteger, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("note", Text),
    Index("ledger_by_account", "account_id", "created_at_ms", "amount_nanousd"),
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
    Column("account_id", Text, nullable=False, server_default="default"),
    Column("expires_at_ms", BigInteger),
    Column("previous_hash", Text),
    Column("previous_until_ms", BigInteger),
    Index("keys_by_hash", "hash", unique=True),
    Index("keys_by_previous_hash", "previous_hash"),
)

# Who pays for keys. The account `default` needs no row: without one it has no settings of its own.
accounts = Table(
    "accounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("settings", Text),
)

# Days and hours that are over (since 1970), summed up for each key and for everybody (see `rollup`): nothing that
# `requests` doesn't say.
days = Table(
    "days",
    metadata,
    Column("day", Integer, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("sums", Text, nullable=False),
    PrimaryKeyConstraint("day", "key_id", name="days_pk"),
)

hours = Table(
    "hours",
    metadata,
    Column("hour", Integer, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("sums", Text, nullable=False),
    PrimaryKeyConstraint("hour", "key_id", name="hours_pk"),
)

# What was imported from elsewhere (`storage.audit`). An id begins with the time, so that an export, which is in the
# order of time, is appended and not scattered.
imported_usage = Table(
    "imported_usage",
    metadata,
    Column("id", Text, primary_key=True),
    Column("content", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("cut", Text, nullable=False),
    Column("starts_at_ms", BigInteger, nullable=False),
    Column("ends_at_ms", BigInteger, nullable=False),
    Column("imported_at_ms", BigInteger, nullable=False),
    Column("model", Text),
    Column("requests", BigInteger),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("priced_by", Text),
)

imported_requests = Table(
    "imported_requests",
    metadata,
    Column("id", Text, primary_key=True),
    Column("content", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("external_id", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("model", Text),
    Column("provider", Text),
    Column("failed", Boolean, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cost_nanousd", BigInteger),
    Column("priced_by", Text),
    Column("latency_ms", BigInteger),
    Column("ttft_ms", BigInteger),
    Column("task_type", Text),
    Column("confidence", Float),
    Column("difficulty", Float),
    Column("needs", Text),
    Column("conversation_id", Text),
)

imports = Table(
    "imports",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("imported_at_ms", BigInteger, nullable=False),
    Column("records", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
)

# What is learned and configured beside the traffic, each whole as JSON text: policies, suites, runs, schedules,
# snapshots, alerts (`insights.documents`). Few and small, read whole, so that a column a field would buy nothing.
documents = Table(
    "documents",
    metadata,
    Column("kind", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("body", Text, nullable=False),
    PrimaryKeyConstraint("kind", "id", name="documents_pk"),
    Index("documents_by_time", "kind", "created_at_ms"),
)

# What was said of an answer after it was given: only ever added to.
signals = Table(
    "signals",
    metadata,
    Column("id", Text, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("value", Float),
    Column("version", Text),
    Column("key_id", Text),
    Column("comment", Text),
    Column("cost_nanousd", BigInteger),
    Index("signals_by_request", "request_id"),
    Index("signals_by_time", "created_at_ms"),
)

# Who does a round that only one process may do, and until when.
leases = Table(
    "leases",
    metadata,
    Column("name", Text, primary_key=True),
    Column("holder", Text, nullable=False),
    Column("until_ms", BigInteger, nullable=False),
)

# Accounts' own keys of providers (`storage.settings`): `sealed` is encrypted, `hint` and `origin` are to be shown.
provider_keys = Table(
    "provider_keys",
    metadata,
    Column("account_id", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("id", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("hint", Text, nullable=False),
    Column("sealed", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    PrimaryKeyConstraint("account_id", "provider", name="provider_keys_pk"),
)

# A conversation's turns are the requests that name it.
conversations = Table(
    "conversations",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("key_id", Text, nullable=False),
    Column("title", Text),
    Column("created_at_ms", BigInteger, nullable=False),
    Index("conversations_by_account", "account_id", "created_at_ms"),
)

# What is remembered of turns. `vector` is base64 of 32-bit floats, little-endian, of length 1; `model` made it.
memories = Table(
    "memories",
    metadata,
    Column("id", Text, primary_key=True),
    Column("account_id", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("conversation_id", Text),
    Column("prompt", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("vector", Text, nullable=False),
    Index("memories_by_account", "account_id", "created_at_ms"),
)

meta = Table(
    "meta",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
)
