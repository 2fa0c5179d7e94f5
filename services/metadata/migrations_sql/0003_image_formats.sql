-- Stills in several formats, and what stands in for their picture until it has come.

ALTER TABLE thumbnails
    ADD COLUMN thumbhash bytea NOT NULL DEFAULT '' CHECK (length(thumbhash) <= 32),
    DROP CONSTRAINT thumbnails_pkey,
    ADD PRIMARY KEY (shard, media_id, generation, size_px, content_type);
