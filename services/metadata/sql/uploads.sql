-- Queries on `uploads`. $1 is the shard, but for one marked "all shards": it reads, and what it finds is worked on one by
-- one. Who changes the state of a session holds the lock of its media; who looks after its objects changes `sweep_at` and
-- `sweep_count` alone, and holds none.

-- name: insert_upload
-- The session of a new media.
INSERT INTO uploads (shard, media_id, size_bytes, part_size_bytes, state, expires_at, kind, sweep_at)
VALUES ($1, $2, $3, $4, 'open', now() + $5::interval, $6, now() + $7::interval);

-- name: find_upload
-- A session with what it shares with its media, by the database's clock.
SELECT u.shard, u.media_id, m.user_id, m.type, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
       u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired, u.kind, m.checksum_algorithm, m.checksum
FROM uploads u
JOIN media m ON m.shard = u.shard AND m.media_id = u.media_id
WHERE u.shard = $1 AND u.media_id = $2;

-- name: find_owned_upload
-- The same, for one owner.
SELECT u.shard, u.media_id, m.user_id, m.type, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
       u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired, u.kind, m.checksum_algorithm, m.checksum
FROM uploads u
JOIN media m ON m.shard = u.shard AND m.media_id = u.media_id
WHERE u.shard = $1 AND m.shard = $1 AND m.user_id = $2 AND u.media_id = $3;

-- name: attach_upload
-- Object storage's identifier; the first one stays.
UPDATE uploads
SET upload_id = $3, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND upload_id IS NULL AND state = 'open';

-- name: move_upload
-- From one state ($3) to another ($4), which is to be looked after so much later ($5, NULL for never).
UPDATE uploads
SET state = $4, state_since = now(), sweep_at = now() + $5::interval, sweep_count = 0, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND state = $3;

-- name: sweep_later
-- The session stays as it is, and is to be looked after so much later ($3).
UPDATE uploads
SET sweep_at = now() + $3::interval, sweep_count = 0, updated_at = now()
WHERE shard = $1 AND media_id = $2;

-- name: due_sweeps
-- All shards: sessions whose objects need looking after, the one that waits longest first.
SELECT shard, media_id
FROM uploads
WHERE sweep_at <= now()
ORDER BY sweep_at
LIMIT $1;

-- name: claim_sweep
-- One of them, for a while ($3); answers nothing when somebody else was quicker.
UPDATE uploads
SET sweep_at = now() + $3::interval, sweep_count = sweep_count + 1
WHERE shard = $1 AND media_id = $2 AND sweep_at <= now()
RETURNING sweep_count, now() - state_since AS in_state_for;

-- name: finish_sweep
-- When the session is to be looked after again ($5, NULL for never), unless it moved on or was claimed again meanwhile.
UPDATE uploads
SET sweep_at = now() + $5::interval
WHERE shard = $1 AND media_id = $2 AND state = $3 AND sweep_count = $4;

-- name: live_uploads
-- Which of these media have a session under way, and storage's identifier of it.
SELECT media_id, upload_id
FROM uploads
WHERE shard = $1 AND media_id = ANY ($2::uuid[]) AND state IN ('open', 'completing');
