"""What must last: requests, attempts and keys, in SQLite (PostgreSQL later), behind one `Store`.

    store      the async face, and `OfflineKeys` for the command line
    writer     the only way from the hot path to the disk
    ledger     insert and read requests and attempts
    usage      sums over them
    keys       the gateway's own API keys
    database   one engine: connections, transactions, what a driver's error means
    schema     is the database at this program's revision, and if not, bring it there
    tables     the columns

`ledger`, `usage`, `keys` and `meta` are functions over a SQLAlchemy `Connection`: they know neither threads nor loops,
so the same statements serve the server, the command line and any driver that SQLAlchemy can hand a connection of.
"""
