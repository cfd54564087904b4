-- Times are milliseconds since 1970. JSON columns hold what is read as a whole.
CREATE TABLE sheds (
    name         TEXT PRIMARY KEY,
    status       TEXT NOT NULL,
    reason       TEXT,
    reason_code  TEXT,
    -- What people want: 1 if it should run. A shed that ran is started again after a restart of engine or host.
    wanted       INTEGER NOT NULL,
    created_at   INTEGER NOT NULL,
    status_since INTEGER NOT NULL,
    spec         TEXT NOT NULL
) STRICT;

CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      INTEGER NOT NULL,
    kind    TEXT NOT NULL,
    actor   TEXT NOT NULL,
    shed    TEXT,
    session TEXT,
    status  TEXT,
    note    TEXT
) STRICT;
CREATE INDEX events_by_shed ON events (shed, id);

CREATE TABLE keys (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    fingerprint  TEXT NOT NULL UNIQUE,
    public_key   TEXT NOT NULL,
    scope        TEXT NOT NULL,
    sheds        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    last_used_at INTEGER
) STRICT;

CREATE TABLE tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL UNIQUE,
    -- SHA-256 of the secret; the secret itself is nowhere.
    hash         BLOB NOT NULL UNIQUE,
    scope        TEXT NOT NULL,
    sheds        TEXT NOT NULL,
    created_at   INTEGER NOT NULL,
    expires_at   INTEGER,
    last_used_at INTEGER
) STRICT;

-- Marks that must survive a restart, such as "the first start has imported the user's keys".
CREATE TABLE marks (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
