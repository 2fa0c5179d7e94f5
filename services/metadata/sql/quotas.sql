-- Queries on `quotas`. $1 is the shard, always. Who changes a quota holds the lock of the media that it is changed for, or has
-- just made that media: rows of this table are locked last.

-- name: reserve
-- Room for so many more bytes ($3), media ($4) and open uploads ($5), within the owner's limits or else those given ($6 to
-- $8). Answers nothing when there is none. A first reservation makes the row; its caller has compared it with the limits.
INSERT INTO quotas (shard, user_id, used_bytes, media_count, open_upload_count)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (shard, user_id) DO UPDATE
SET used_bytes = quotas.used_bytes + excluded.used_bytes,
    media_count = quotas.media_count + excluded.media_count,
    open_upload_count = quotas.open_upload_count + excluded.open_upload_count
WHERE quotas.used_bytes + greatest(excluded.used_bytes, 1) <= coalesce(quotas.limit_bytes, $6)
      AND quotas.media_count + excluded.media_count <= coalesce(quotas.media_limit, $7)
      AND quotas.open_upload_count + excluded.open_upload_count <= coalesce(quotas.open_upload_limit, $8)
RETURNING shard;

-- name: release
-- So many bytes ($3), media ($4) and open uploads ($5) less.
UPDATE quotas
SET used_bytes = used_bytes - $3, media_count = media_count - $4, open_upload_count = open_upload_count - $5
WHERE shard = $1 AND user_id = $2;

-- name: find_quota
-- What an owner uses, and the limits that are theirs alone.
SELECT used_bytes, media_count, open_upload_count, limit_bytes, media_limit, open_upload_limit
FROM quotas
WHERE shard = $1 AND user_id = $2;
