"""What must last: requests, credit, keys, settings, in SQLite or PostgreSQL, behind one `Store`.

    store      the async face, and `OfflineKeys` for the command line
    spool      the file that a request is written to before its answer ends
    writer     from the spool to the database
    ledger     insert and read requests, attempts and credit; `lone`: a request with one attempt is one row
    usage      sums over them, of `rollup`'s closed hours and days and of what came since
    stream     all of them, page by page
    keys, accounts, settings, conversations, memory, audit, insights    a table or two each
    retention, keeper    what goes when it is old
    database, postgres   the two engines: connections, transactions, what a driver's error means
    archive    backup and restore
    schema     is the database at this program's revision, and if not, bring it there
    tables     the columns

`ledger`, `usage`, `keys` and their like are functions over a SQLAlchemy `Connection`: they know neither threads nor
loops, so the same statements serve the server, the command line and both engines.
"""
