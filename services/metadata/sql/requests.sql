-- Queries on `requests`. $1 is the shard, but for one marked "all shards": it reads, and what it finds is worked on shard by
-- shard.

-- name: begin_request
-- A request that carries a key for the first time; answers nothing when the key is known.
INSERT INTO requests (shard, user_id, idempotency_key, fingerprint, operation_id, claim_id, lease_until, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, now() + $7::interval, now() + $8::interval)
ON CONFLICT (shard, user_id, idempotency_key) DO NOTHING
RETURNING shard;

-- name: lock_request
-- A request, held until the transaction ends, with what is left of its first caller's time.
SELECT fingerprint, operation_id, claim_id, answer, expires_at <= now() AS expired,
       greatest(lease_until - now(), interval '0') AS lease_left
FROM requests
WHERE shard = $1 AND user_id = $2 AND idempotency_key = $3
FOR UPDATE;

-- name: take_request
-- It is carried out by another caller, or begins anew after its time.
UPDATE requests
SET fingerprint = $4, operation_id = $5, claim_id = $6, lease_until = now() + $7::interval,
    expires_at = now() + $8::interval, answer = NULL
WHERE shard = $1 AND user_id = $2 AND idempotency_key = $3;

-- name: answer_request
-- What repeats are answered.
UPDATE requests
SET answer = $6
WHERE shard = $1 AND user_id = $2 AND idempotency_key = $3 AND operation_id = $4 AND claim_id = coalesce($5, claim_id)
  AND answer IS NULL;

-- name: yield_request
-- Nobody is at it any more, but it may have taken effect.
UPDATE requests
SET lease_until = now()
WHERE shard = $1 AND user_id = $2 AND idempotency_key = $3 AND operation_id = $4 AND claim_id = coalesce($5, claim_id)
  AND answer IS NULL;

-- name: drop_request
-- It took no effect: the key is free again.
DELETE FROM requests
WHERE shard = $1 AND user_id = $2 AND idempotency_key = $3 AND operation_id = $4 AND claim_id = coalesce($5, claim_id)
  AND answer IS NULL;

-- name: expired_shards
-- All shards: where keys were kept long enough.
SELECT DISTINCT shard
FROM requests
WHERE expires_at <= now()
LIMIT $1;

-- name: forget_expired
-- Those of one shard.
DELETE FROM requests
WHERE shard = $1 AND expires_at <= now()
RETURNING shard;
