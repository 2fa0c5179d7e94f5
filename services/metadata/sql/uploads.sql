-- Queries on `uploads`. $1 is the shard, but for one marked "all shards": it reads, and what it finds is worked on one by
-- one. Who changes the state of a session holds the lock of its media; who looks after its objects changes `sweep_at` and
-- `sweep_count` alone, and holds none.

-- name: begin_upload
-- A new media, its session, and its room in its owner's quota ($17 to $19 are the limits of owners without their own), in
-- one round trip. Nothing is answered when the id, or the owner's request id, is there already; the statement fails when the
-- quota is used up. The first reservation of an owner makes the row of the quota, and is compared with $17 before: an insert
-- looks at no limit.
WITH new_media AS (
    INSERT INTO media (
        shard, media_id, user_id, request_id, type, status, s3_key, size_bytes, filename, content_type, delivery_prefix,
        traceparent, deadline_at, checksum_algorithm, checksum
    )
    VALUES ($1, $2, $3, $4, $5, 'uploading', $6, $7, $8, $9, $10, $11, now() + $12::interval, $13, $14)
    ON CONFLICT DO NOTHING
    RETURNING shard, media_id, user_id, size_bytes, deadline_at
), new_upload AS (
    INSERT INTO uploads (shard, media_id, size_bytes, part_size_bytes, state, expires_at, kind, sweep_at, upload_id)
    SELECT shard, media_id, size_bytes, $15, 'open', deadline_at, $16, now() + $20::interval, $21
    FROM new_media
), room AS (
    INSERT INTO quotas (shard, user_id, used_bytes, media_count, open_upload_count)
    SELECT shard, user_id, size_bytes, 1, 1
    FROM new_media
    WHERE size_bytes <= $17 OR EXISTS (SELECT q.shard FROM quotas q WHERE q.shard = $1 AND q.user_id = $3)
    ON CONFLICT (shard, user_id) DO UPDATE
    SET used_bytes = quotas.used_bytes + excluded.used_bytes,
        media_count = quotas.media_count + excluded.media_count,
        open_upload_count = quotas.open_upload_count + excluded.open_upload_count
    WHERE quotas.used_bytes + greatest(excluded.used_bytes, 1) <= coalesce(quotas.limit_bytes, $17)
          AND quotas.media_count + excluded.media_count <= coalesce(quotas.media_limit, $18)
          AND quotas.open_upload_count + excluded.open_upload_count <= coalesce(quotas.open_upload_limit, $19)
    RETURNING shard
)
SELECT deadline_at AS expires_at
FROM new_media
WHERE shard = $1 AND refuse_without_room(EXISTS (SELECT shard FROM room));

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
-- Object storage's identifier; the first one stays, and none is taken by a session that is not open. Answers the session as
-- it is then. It needs no lock of the media: the row of the session is locked by whoever moves it, too.
UPDATE uploads u
SET upload_id = coalesce(u.upload_id, CASE u.state WHEN 'open' THEN $3::text END), updated_at = now()
FROM media m
WHERE u.shard = $1 AND u.media_id = $2 AND m.shard = $1 AND m.media_id = $2
RETURNING u.shard, u.media_id, m.user_id, m.type, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
          u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired, u.kind, m.checksum_algorithm,
          m.checksum;

-- name: move_upload
-- From one state ($3) to another ($4), which is to be looked after so much later ($5, NULL for never).
UPDATE uploads
SET state = $4, state_since = now(), sweep_at = now() + $5::interval, sweep_count = 0, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND state = $3;

-- name: sweep_later
-- The session stays as it is, and is to be looked after so much later ($3), if not earlier; whoever is at it now did not know.
UPDATE uploads
SET sweep_at = least(sweep_at, now() + $3::interval), sweep_count = sweep_count + 1, updated_at = now()
WHERE shard = $1 AND media_id = $2;

-- name: due_sweeps
-- All shards: sessions whose objects need looking after, the one that waits longest first.
SELECT shard, media_id
FROM uploads
WHERE sweep_at <= now()
ORDER BY sweep_at
LIMIT $1;

-- name: claim_sweep
-- One of them, for a while ($3), as it stands then; answers nothing when somebody else was quicker.
UPDATE uploads u
SET sweep_at = now() + $3::interval, sweep_count = u.sweep_count + 1
FROM media m
WHERE u.shard = $1 AND u.media_id = $2 AND u.sweep_at <= now() AND m.shard = $1 AND m.media_id = $2
RETURNING u.shard, u.media_id, m.user_id, m.type, m.s3_key, m.content_type, m.traceparent, u.upload_id, u.size_bytes,
          u.part_size_bytes, u.state, u.expires_at, u.expires_at <= now() AS expired, u.kind, m.checksum_algorithm,
          m.checksum, m.status, u.sweep_count, now() - u.state_since AS in_state_for;

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
