-- Who can cause an event decides how many of its kind are kept: 0 is about the server, 1 is what people did with a shed, 2 is
-- what a shed's container may have caused.
ALTER TABLE events ADD COLUMN share INTEGER NOT NULL DEFAULT 0;
UPDATE events SET share = CASE
    WHEN shed IS NULL THEN 0
    WHEN actor = 'server' OR actor LIKE 'shed:%' THEN 2
    ELSE 1
END;
CREATE INDEX events_by_share ON events (shed, share, id);
CREATE INDEX events_of_sheds ON events (id) WHERE share > 0;
