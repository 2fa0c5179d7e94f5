-- Queries on `outbox`. $1 is the shard, but for those marked "all shards": they read, and what they find is then worked
-- on shard by shard.

-- name: insert_message
-- A message that this transaction decided. The first one of its (media, generation, kind, task) stays.
INSERT INTO outbox (shard, outbox_id, media_id, generation, kind, task_id, subject, body, traceparent)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (shard, media_id, generation, kind, task_id) DO NOTHING;

-- name: emit_again
-- The message is wanted once more, after a wait ($10), under a new id at the broker.
INSERT INTO outbox (shard, outbox_id, media_id, generation, kind, task_id, subject, body, traceparent, not_before)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + $10::interval)
ON CONFLICT (shard, media_id, generation, kind, task_id) DO UPDATE
SET emission = outbox.emission + 1, published_at = NULL, look_again_at = NULL, not_before = excluded.not_before,
    traceparent = CASE excluded.traceparent WHEN '' THEN outbox.traceparent ELSE excluded.traceparent END;

-- name: announce
-- Wakes the relays when, and only when, this transaction commits. A constant payload: many in one transaction are one.
NOTIFY millrace_outbox;

-- name: due_shards
-- All shards: which have something to publish, the one that waits longest first.
SELECT shard
FROM outbox
WHERE published_at IS NULL AND not_before <= now()
GROUP BY shard
ORDER BY min(not_before)
LIMIT $1;

-- name: take_due
-- What is due in a shard and not in another relay's hands, held until the transaction ends.
SELECT outbox_id, subject, body, traceparent, emission
FROM outbox
WHERE shard = $1 AND published_at IS NULL AND not_before <= now()
ORDER BY not_before
LIMIT $2
FOR UPDATE SKIP LOCKED;

-- name: mark_published
-- The broker has them on disk. Messages that must have an effect get a time at which to look whether they had; it
-- doubles with each emission, so that a backlog is not answered with ever more messages. Up to a bound ($4) it does so
-- for messages of a whole media: they are let go after a few failures, so that during an outage of storage this is all
-- that brings them back, and a wait that doubled all the while would last as long again as the outage did. A repeat of
-- what was done meanwhile costs one question to this service. Tasks wait in queues for hours, and an outage brings them
-- back by itself: whoever failed them announces them anew.
UPDATE outbox
SET published_at = now(),
    look_again_at = CASE WHEN kind IN ('media.uploaded', 'media.encoded')
                         THEN now() + least($3::interval * 2 ^ least(emission, 10), greatest($3::interval, $4::interval))
                         WHEN kind = 'task'
                         THEN now() + $3::interval * 2 ^ least(emission, 10) END
WHERE shard = $1 AND outbox_id = ANY ($2::uuid[]);

-- name: postpone
-- The broker did not confirm them: once more, after a wait.
UPDATE outbox
SET not_before = now() + $3::interval
WHERE shard = $1 AND outbox_id = ANY ($2::uuid[]);

-- name: overdue
-- All shards: published messages whose effect is due, and whether it is still missing. `media.uploaded` asks for a
-- plan, `task` for a claim, `media.encoded` for publishing.
SELECT o.shard, o.outbox_id, o.media_id, o.kind, o.emission,
       coalesce(
           m.status = 'processing' AND m.generation = o.generation
           AND CASE o.kind WHEN 'media.uploaded' THEN m.planned_at IS NULL
                           WHEN 'task' THEN t.state = 'queued'
                           ELSE true END,
           false
       ) AS missing
FROM outbox o
LEFT JOIN media m ON m.shard = o.shard AND m.media_id = o.media_id
LEFT JOIN tasks t ON t.shard = o.shard AND t.task_id = o.task_id
WHERE o.look_again_at <= now()
ORDER BY o.look_again_at
LIMIT $1;

-- name: emit_overdue
-- The same message again under a new id at the broker, unless that happened meanwhile ($3 is the emission that was seen).
UPDATE outbox
SET emission = emission + 1, published_at = NULL, look_again_at = NULL, not_before = now()
WHERE shard = $1 AND outbox_id = $2 AND emission = $3 AND look_again_at IS NOT NULL
RETURNING outbox_id;

-- name: settle
-- Their effect came: no need to look again, unless they were said again meanwhile.
UPDATE outbox
SET look_again_at = NULL
WHERE shard = $1 AND outbox_id = ANY ($2::uuid[]) AND look_again_at <= now();

-- name: settled_before
-- All shards: messages that are published, have had their effect, and are kept long enough ($1).
SELECT shard, outbox_id
FROM outbox
WHERE published_at < now() - $1::interval AND look_again_at IS NULL
ORDER BY published_at
LIMIT $2;

-- name: forget
-- Settled messages of one shard.
DELETE FROM outbox
WHERE shard = $1 AND outbox_id = ANY ($2::uuid[]) AND published_at IS NOT NULL AND look_again_at IS NULL;
