-- Queries on `uploads`. $1 is the shard, always. Who changes a session holds the lock of its media.

-- name: insert_upload
-- The session of a new media.
INSERT INTO uploads (shard, media_id, size_bytes, part_size_bytes, state, expires_at)
VALUES ($1, $2, $3, $4, 'open', now() + $5::interval);

-- name: find_upload
-- A session with what it shares with its media, by the database's clock.
SELECT u.shard, u.media_id, m.user_id, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
       u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired
FROM uploads u
JOIN media m ON m.shard = u.shard AND m.media_id = u.media_id
WHERE u.shard = $1 AND u.media_id = $2;

-- name: find_owned_upload
-- The same, for one owner.
SELECT u.shard, u.media_id, m.user_id, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
       u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired
FROM uploads u
JOIN media m ON m.shard = u.shard AND m.media_id = u.media_id
WHERE u.shard = $1 AND m.shard = $1 AND m.user_id = $2 AND u.media_id = $3;

-- name: attach_upload
-- Object storage's identifier; the first one stays.
UPDATE uploads
SET upload_id = $3, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND upload_id IS NULL AND state = 'open';

-- name: move_upload
-- From one state ($3) to another ($4).
UPDATE uploads
SET state = $4, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND state = $3;
