-- Sessions that shed made. A shed's rows outlive its container, and its own row when its volumes are kept.
CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    shed         TEXT NOT NULL,
    name         TEXT NOT NULL,
    status       TEXT NOT NULL,
    reason       TEXT,
    created_at   INTEGER NOT NULL,
    status_since INTEGER NOT NULL,
    spec         TEXT NOT NULL,
    UNIQUE (shed, name)
) STRICT;

CREATE TABLE workers (
    id         TEXT PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    status     TEXT NOT NULL,
    epoch      INTEGER NOT NULL,
    -- How its command ended, as JSON.
    exit       TEXT,
    reason     TEXT,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    ended_at   INTEGER,
    spec       TEXT NOT NULL,
    UNIQUE (session, name)
) STRICT;

-- What a shed's tmux looked like: at its last orderly stop, or when it last changed.
CREATE TABLE layouts (
    shed    TEXT PRIMARY KEY,
    at      INTEGER NOT NULL,
    orderly INTEGER NOT NULL,
    -- Which start of the shed it was.
    boot    TEXT NOT NULL,
    body    TEXT NOT NULL
) STRICT;
