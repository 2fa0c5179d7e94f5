-- Queries on `media`. $1 is the shard, but for one marked "all shards": it reads, and what it finds is worked on one by one.

-- name: media_by_request
-- The media that an owner's idempotency key made.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND user_id = $2 AND request_id = $3;

-- name: lock_media
-- One media, held until the transaction ends: every change of a media, its upload or its tasks begins here. It leaves
-- the key alone, so that rows which refer to the media may be inserted meanwhile.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND media_id = $2
FOR NO KEY UPDATE;

-- name: find_media
-- One media, as it is.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND media_id = $2;

-- name: find_owned_media
-- One media of one owner.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND user_id = $2 AND media_id = $3;

-- name: list_media
-- An owner's newest media; $3 NULL means in any status.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND user_id = $2 AND ($3::text IS NULL OR status = $3)
ORDER BY created_at DESC, media_id DESC
LIMIT $4;

-- name: list_media_after
-- The same, from below a position ($4, $5) on. Two queries rather than one with a condition, so that the index serves both.
SELECT shard, media_id, user_id, type, status, generation, s3_key, size_bytes, filename, content_type, original_etag,
       delivery_prefix, source, s3_manifest_key, failure_reason, failure_message, traceparent, created_at, updated_at,
       planned_at, published_at, checksum_algorithm, checksum
FROM media
WHERE shard = $1 AND user_id = $2 AND ($3::text IS NULL OR status = $3) AND (created_at, media_id) < ($4, $5)
ORDER BY created_at DESC, media_id DESC
LIMIT $6;

-- name: set_deadline
-- Another deadline for an upload: so long from now, but not earlier than its expiry.
UPDATE media
SET deadline_at = greatest($4, now() + $3::interval), updated_at = now()
WHERE shard = $1 AND media_id = $2 AND status = 'uploading';

-- name: measure
-- What storage holds of an upload whose size was not known ($3), and its checksum ($4, NULL for none) where none was given.
UPDATE media
SET size_bytes = $3, checksum = coalesce(checksum, $4), updated_at = now()
WHERE shard = $1 AND media_id = $2 AND status = 'uploading';

-- name: begin_processing
-- Pins the original.
UPDATE media
SET status = 'processing', original_etag = $3, size_bytes = $4, deadline_at = now() + $5::interval, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND status = 'uploading';

-- name: record_plan
-- What the original was found to be; its type by its bytes ($5, NULL to leave what was claimed).
UPDATE media
SET source = $4, type = coalesce($5, type), planned_at = now(), updated_at = now()
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND status = 'processing';

-- name: fail_media
-- Ends a generation without publishing it.
UPDATE media
SET status = 'failed', failure_reason = $4, failure_message = $5, deadline_at = NULL, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND status IN ('uploading', 'processing');

-- name: publish_media
-- Makes a generation visible.
UPDATE media
SET status = 'published', s3_manifest_key = $4, published_at = now(), deadline_at = NULL, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND status = 'processing'
RETURNING published_at;

-- name: overdue_media
-- All shards: media that are past their deadline.
SELECT shard, media_id
FROM media
WHERE deadline_at < now()
ORDER BY deadline_at
LIMIT $1;

-- name: is_overdue
-- One of them, looked at again under its lock.
SELECT deadline_at < now()
FROM media
WHERE shard = $1 AND media_id = $2;
