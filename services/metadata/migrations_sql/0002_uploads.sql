-- Kinds of uploads, checksums, quotas, looking after what lies at storage, and idempotency keys.

-- An upload whose client does not say its size is of 0 bytes until it is complete.
ALTER TABLE media
    DROP CONSTRAINT media_size_bytes_check,
    ADD CONSTRAINT size_is_known CHECK (size_bytes > 0 OR size_bytes = 0 AND status IN ('uploading', 'failed')),
    ADD COLUMN checksum_algorithm text CHECK (checksum_algorithm IN ('CRC32C', 'SHA256')),
    ADD COLUMN checksum text CHECK (checksum IS NULL OR checksum_algorithm IS NOT NULL);

-- `sweep_at` is when somebody is to look after the upload's objects at storage; it is set whenever a state asks for that.
-- `sweep_count` fences those who do, and begins anew with each state.
ALTER TABLE uploads
    DROP CONSTRAINT uploads_size_bytes_check,
    ADD CONSTRAINT uploads_size_bytes_check CHECK (size_bytes >= 0),
    DROP CONSTRAINT uploads_part_size_bytes_check,
    ADD CONSTRAINT uploads_part_size_bytes_check CHECK (part_size_bytes >= 0 AND (part_size_bytes = 0) = (size_bytes = 0)),
    ADD COLUMN kind text NOT NULL DEFAULT 'multipart' CHECK (kind IN ('multipart', 'put', 'form')),
    ADD COLUMN state_since timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN sweep_at timestamptz,
    ADD COLUMN sweep_count integer NOT NULL DEFAULT 0 CHECK (sweep_count >= 0);

UPDATE uploads
SET sweep_at = now()
WHERE state IN ('aborted', 'completing')
      OR EXISTS (
          SELECT m.shard FROM media m
          WHERE m.shard = uploads.shard AND m.media_id = uploads.media_id AND m.status = 'failed'
      );

CREATE INDEX uploads_to_sweep ON uploads (sweep_at) WHERE sweep_at IS NOT NULL;

-- What an owner uses: the bytes and the number of media that did not fail, and the uploads under way among them. Changed in
-- the transaction that changes those. Limits of NULL are the service's.
CREATE TABLE quotas (
    shard             integer     NOT NULL CHECK (shard BETWEEN 0 AND 4095),
    user_id           text        NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    used_bytes        bigint      NOT NULL CHECK (used_bytes >= 0),
    media_count       bigint      NOT NULL CHECK (media_count >= 0),
    open_upload_count bigint      NOT NULL CHECK (open_upload_count >= 0),
    limit_bytes       bigint      CHECK (limit_bytes > 0),
    media_limit       bigint      CHECK (media_limit > 0),
    open_upload_limit bigint      CHECK (open_upload_limit > 0),
    PRIMARY KEY (shard, user_id)
) PARTITION BY HASH (shard);

-- Ends a statement, and so undoes all of it, when a quota has no room: one statement then begins an upload, or does nothing.
CREATE FUNCTION refuse_without_room(has_room boolean) RETURNS boolean
    LANGUAGE plpgsql
    AS $$
BEGIN
    IF NOT has_room THEN
        RAISE EXCEPTION 'the quota has no room' USING ERRCODE = 'MR001';
    END IF;
    RETURN true;
END
$$;

-- Requests that carried an idempotency key. One that is under way has a lease and no answer; `claim_id` lets a transaction
-- whose commit was not answered recognise its own claim when it runs again.
CREATE TABLE requests (
    shard             integer     NOT NULL CHECK (shard BETWEEN 0 AND 4095),
    user_id           text        NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    idempotency_key   text        NOT NULL CHECK (length(idempotency_key) BETWEEN 1 AND 255),
    fingerprint       bytea       NOT NULL,
    operation_id      uuid        NOT NULL,
    claim_id          uuid        NOT NULL,
    lease_until       timestamptz NOT NULL,
    answer            bytea,
    expires_at        timestamptz NOT NULL,
    PRIMARY KEY (shard, user_id, idempotency_key)
) PARTITION BY HASH (shard);

-- The reconciler: keys that are kept long enough.
CREATE INDEX requests_by_expiry ON requests (expires_at);

DO $$
DECLARE
    parent text;
    remainder integer;
BEGIN
    FOREACH parent IN ARRAY ARRAY['quotas', 'requests'] LOOP
        FOR remainder IN 0..7 LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 8, REMAINDER %s)',
                parent || '_p' || remainder, parent, remainder
            );
        END LOOP;
    END LOOP;
END
$$;

INSERT INTO quotas (shard, user_id, used_bytes, media_count, open_upload_count)
SELECT shard, user_id, sum(size_bytes), count(*), count(*) FILTER (WHERE status = 'uploading')
FROM media
WHERE status <> 'failed'
GROUP BY shard, user_id;
