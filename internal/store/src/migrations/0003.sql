-- The repositories of deleted sessions: the trash and old checkpoints are in them.
CREATE TABLE repositories (
    shed      TEXT NOT NULL,
    directory TEXT NOT NULL,
    PRIMARY KEY (shed, directory)
) STRICT;
