-- Queries on `quotas`. $1 is the shard, always. Who changes a quota holds the lock of the media that it is changed for, or has
-- just made that media: rows of this table are locked last.

-- name: reserve_bytes
-- So many more bytes ($3) for a media that is there, within the owner's limit or else the one given ($4). Answers nothing when
-- there is no room. The media that is there has made the row.
UPDATE quotas
SET used_bytes = used_bytes + $3
WHERE shard = $1 AND user_id = $2 AND used_bytes + $3 <= coalesce(limit_bytes, $4)
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
