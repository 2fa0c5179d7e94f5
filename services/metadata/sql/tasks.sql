-- Queries on `tasks`, `renditions` and `thumbnails`. $1 is the shard, but for one marked "all shards": it reads, and
-- what it finds is worked on one by one. Who changes a task holds the lock of its media; only a renewal does without,
-- for it changes nothing but a lease, and never after another attempt began.

-- name: insert_task
-- A task of a plan.
INSERT INTO tasks (shard, task_id, media_id, generation, ordinal, label, lane, spec, cost_share, memory_bytes)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: count_tasks
-- How many tasks a generation has, and how many of them are not done.
SELECT count(*) AS planned, count(*) FILTER (WHERE state <> 'done') AS remaining
FROM tasks
WHERE shard = $1 AND media_id = $2 AND generation = $3;

-- name: summarise_tasks
-- How far each task of a generation is, in plan order.
SELECT task_id, label, state, cost_share
FROM tasks
WHERE shard = $1 AND media_id = $2 AND generation = $3
ORDER BY ordinal;

-- name: find_task
-- One task of one media, with what is left of its lease by the database's clock.
SELECT shard, task_id, media_id, generation, ordinal, label, lane, spec, cost_share, memory_bytes, state, attempt,
       released, claim_id,
       greatest(coalesce(lease_until - now(), interval '0'), interval '0') AS lease_left
FROM tasks
WHERE shard = $1 AND media_id = $2 AND task_id = $3
FOR UPDATE;

-- name: claim_task
-- A lease for a new attempt.
UPDATE tasks
SET state = 'leased', attempt = $4, claim_id = $5, worker = $6, lease_until = now() + $7::interval, traceparent = $8,
    updated_at = now()
WHERE shard = $1 AND media_id = $2 AND task_id = $3 AND attempt = $4 - 1;

-- name: renew_task
-- A longer lease for the latest attempt, or a new one if it lost its lease, and no more (see `requeue_task`): it could
-- not be heard for a while. Whoever comes for the task meanwhile finds it held. Answers nothing when it has ended.
UPDATE tasks
SET state = 'leased', lease_until = now() + $5::interval, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND task_id = $3 AND attempt = $4 AND attempt >= 1
      AND (state = 'leased' OR state = 'queued' AND failure_reason IS NULL)
RETURNING task_id;

-- name: complete_task
-- The result of an attempt.
UPDATE tasks
SET state = 'done', result = $5, traceparent = $6, lease_until = NULL, failure_reason = NULL, failure_message = NULL,
    updated_at = now()
WHERE shard = $1 AND media_id = $2 AND task_id = $3 AND attempt = $4 AND state IN ('queued', 'leased');

-- name: requeue_task
-- Another attempt may come; $5 to $6 say what became of this one, $7 is 1 when it does not count. A task that is queued
-- without a failure lost its lease, and no more: its attempt may live on, and still say how it ended. Answers nothing
-- when it has said so before.
UPDATE tasks
SET state = 'queued', lease_until = NULL, failure_reason = $5, failure_message = $6, released = released + $7,
    updated_at = now()
WHERE shard = $1 AND media_id = $2 AND task_id = $3 AND attempt = $4
      AND (state = 'leased' OR state = 'queued' AND failure_reason IS NULL)
RETURNING task_id;

-- name: fail_task
-- No other attempt will come, because of this task.
UPDATE tasks
SET state = 'failed', lease_until = NULL, failure_reason = $4, failure_message = $5, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND task_id = $3 AND state IN ('queued', 'leased');

-- name: end_tasks
-- No other attempt will come, because the media failed.
UPDATE tasks
SET state = 'failed', lease_until = NULL, updated_at = now()
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND state IN ('queued', 'leased');

-- name: results
-- What the tasks of a generation made, in plan order.
SELECT result, traceparent
FROM tasks
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND state = 'done'
ORDER BY ordinal;

-- name: insert_rendition
-- A rendition, visible once its media is published.
INSERT INTO renditions (
    shard, rendition_id, media_id, generation, ordinal, resolution, duration_secs, bitrate_kbps, peak_bitrate_kbps,
    width_px, height_px, frame_rate_num, frame_rate_den, codecs
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: insert_thumbnail
-- A still, visible once its media is published.
INSERT INTO thumbnails (
    shard, media_id, generation, size_px, s3_key, width_px, height_px, content_type, size_bytes, thumbhash
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: set_playlist
-- Where the playlist of a rendition lies; answers nothing when there is no such rendition.
UPDATE renditions
SET s3_manifest_key = $5
WHERE shard = $1 AND media_id = $2 AND generation = $3 AND resolution = $4
RETURNING rendition_id;

-- name: list_renditions
-- The renditions of a generation, in plan order.
SELECT rendition_id, ordinal, resolution, s3_manifest_key, duration_secs, bitrate_kbps, peak_bitrate_kbps, width_px,
       height_px, frame_rate_num, frame_rate_den, codecs
FROM renditions
WHERE shard = $1 AND media_id = $2 AND generation = $3
ORDER BY ordinal;

-- name: list_thumbnails
-- The stills of a generation, largest first, JPEG before the others of its size.
SELECT size_px, s3_key, width_px, height_px, content_type, size_bytes, thumbhash
FROM thumbnails
WHERE shard = $1 AND media_id = $2 AND generation = $3
ORDER BY size_px DESC, content_type <> 'image/jpeg', content_type DESC;

-- name: smallest_thumbnails
-- The smallest JPEG of each of several published media.
SELECT DISTINCT ON (t.media_id)
       t.media_id, t.size_px, t.s3_key, t.width_px, t.height_px, t.content_type, t.size_bytes, t.thumbhash
FROM thumbnails t
JOIN media m ON m.shard = t.shard AND m.media_id = t.media_id AND m.generation = t.generation
WHERE t.shard = $1 AND m.shard = $1 AND m.status = 'published' AND t.media_id = ANY ($2::uuid[])
ORDER BY t.media_id, t.content_type <> 'image/jpeg', t.size_px;

-- name: expired_leases
-- All shards: tasks whose worker was not heard of in time.
SELECT shard, media_id, task_id
FROM tasks
WHERE lease_until < now() - $1::interval
ORDER BY lease_until
LIMIT $2;
