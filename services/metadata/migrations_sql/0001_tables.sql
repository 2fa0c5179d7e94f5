-- State of media, uploads and tasks, and the outbox.
--
-- Every table carries `shard`, the owner's virtual shard (0 to 4,095), first in its primary key and in every unique
-- constraint, and is hash-partitioned by it. No foreign key leaves a shard. On Citus the same tables are distributed
-- by `shard` instead of partitioned; the queries stay as they are.

CREATE TABLE media (
    shard             integer     NOT NULL CHECK (shard BETWEEN 0 AND 4095),
    media_id          uuid        NOT NULL,
    user_id           text        NOT NULL CHECK (length(user_id) BETWEEN 1 AND 128),
    request_id        text        CHECK (length(request_id) BETWEEN 1 AND 255),
    type              text        NOT NULL CHECK (type IN ('image', 'video')),
    status            text        NOT NULL CHECK (status IN ('uploading', 'processing', 'published', 'failed')),
    generation        integer     NOT NULL DEFAULT 1 CHECK (generation >= 1),
    s3_key            text        NOT NULL,
    size_bytes        bigint      NOT NULL CHECK (size_bytes > 0),
    filename          text        NOT NULL,
    content_type      text        NOT NULL,
    original_etag     text,
    delivery_prefix   text        NOT NULL,
    source            jsonb,
    s3_manifest_key   text,
    failure_reason    text,
    failure_message   text,
    traceparent       text        NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    planned_at        timestamptz,
    published_at      timestamptz,
    deadline_at       timestamptz,
    PRIMARY KEY (shard, media_id),
    UNIQUE (shard, user_id, request_id),
    CONSTRAINT original_is_pinned CHECK (status NOT IN ('processing', 'published') OR original_etag IS NOT NULL),
    CONSTRAINT failed_has_a_reason CHECK ((status = 'failed') = (failure_reason IS NOT NULL)),
    CONSTRAINT reason_has_a_message CHECK ((failure_reason IS NULL) = (failure_message IS NULL)),
    CONSTRAINT published_has_a_time CHECK (status <> 'published' OR published_at IS NOT NULL),
    CONSTRAINT nothing_waits_for_ever CHECK ((status IN ('uploading', 'processing')) = (deadline_at IS NOT NULL))
) PARTITION BY HASH (shard);

-- An owner's list, newest first.
CREATE INDEX media_by_owner ON media (shard, user_id, created_at DESC, media_id DESC);
-- The reconciler: what is past its deadline. Only media that are not final are in it.
CREATE INDEX media_by_deadline ON media (deadline_at) WHERE deadline_at IS NOT NULL;

CREATE TABLE uploads (
    shard             integer     NOT NULL,
    media_id          uuid        NOT NULL,
    upload_id         text,
    size_bytes        bigint      NOT NULL CHECK (size_bytes > 0),
    part_size_bytes   bigint      NOT NULL CHECK (part_size_bytes > 0),
    state             text        NOT NULL CHECK (state IN ('open', 'completing', 'completed', 'aborted')),
    expires_at        timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, media_id),
    FOREIGN KEY (shard, media_id) REFERENCES media (shard, media_id) ON DELETE CASCADE
) PARTITION BY HASH (shard);

-- One row a unit of work. `attempt` fences: it grows with every claim and is never taken back. `released` counts the
-- attempts that workers gave back unharmed; they do not use up the allowance. `claim_id` lets a transaction whose
-- commit was not answered recognise its own claim when it runs again.
CREATE TABLE tasks (
    shard             integer     NOT NULL,
    task_id           uuid        NOT NULL,
    media_id          uuid        NOT NULL,
    generation        integer     NOT NULL,
    ordinal           integer     NOT NULL CHECK (ordinal >= 0),
    label             text        NOT NULL,
    lane              text        NOT NULL,
    spec              jsonb       NOT NULL,
    cost_share        double precision NOT NULL CHECK (cost_share BETWEEN 0 AND 1),
    state             text        NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'leased', 'done', 'failed')),
    attempt           integer     NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    released          integer     NOT NULL DEFAULT 0 CHECK (released BETWEEN 0 AND attempt),
    claim_id          uuid,
    lease_until       timestamptz,
    worker            text,
    failure_reason    text,
    failure_message   text,
    result            bytea,
    traceparent       text        NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (shard, task_id),
    UNIQUE (shard, media_id, generation, label),
    FOREIGN KEY (shard, media_id) REFERENCES media (shard, media_id) ON DELETE CASCADE,
    CONSTRAINT leased_has_an_end CHECK ((state = 'leased') = (lease_until IS NOT NULL)),
    CONSTRAINT done_has_a_result CHECK ((state = 'done') = (result IS NOT NULL))
) PARTITION BY HASH (shard);

-- The reconciler: leases that ran out.
CREATE INDEX tasks_by_lease ON tasks (lease_until) WHERE lease_until IS NOT NULL;

CREATE TABLE renditions (
    shard             integer     NOT NULL,
    rendition_id      uuid        NOT NULL,
    media_id          uuid        NOT NULL,
    generation        integer     NOT NULL,
    ordinal           integer     NOT NULL,
    resolution        text        NOT NULL,
    s3_manifest_key   text,
    duration_secs     double precision NOT NULL CHECK (duration_secs >= 0),
    bitrate_kbps      integer     NOT NULL CHECK (bitrate_kbps >= 0),
    peak_bitrate_kbps integer     NOT NULL CHECK (peak_bitrate_kbps >= 0),
    width_px          integer     NOT NULL CHECK (width_px >= 0),
    height_px         integer     NOT NULL CHECK (height_px >= 0),
    frame_rate_num    integer     NOT NULL,
    frame_rate_den    integer     NOT NULL,
    codecs            text        NOT NULL,
    PRIMARY KEY (shard, rendition_id),
    UNIQUE (shard, media_id, generation, resolution),
    FOREIGN KEY (shard, media_id) REFERENCES media (shard, media_id) ON DELETE CASCADE
) PARTITION BY HASH (shard);

CREATE TABLE thumbnails (
    shard             integer     NOT NULL,
    media_id          uuid        NOT NULL,
    generation        integer     NOT NULL,
    size_px           integer     NOT NULL CHECK (size_px > 0),
    s3_key            text        NOT NULL,
    width_px          integer     NOT NULL CHECK (width_px > 0),
    height_px         integer     NOT NULL CHECK (height_px > 0),
    content_type      text        NOT NULL,
    size_bytes        bigint      NOT NULL CHECK (size_bytes > 0),
    PRIMARY KEY (shard, media_id, generation, size_px),
    FOREIGN KEY (shard, media_id) REFERENCES media (shard, media_id) ON DELETE CASCADE
) PARTITION BY HASH (shard);

-- Messages that transactions decided. One row says one thing about one media, or one task, of one generation, for all
-- time; saying it again grows `emission`, which is a part of the message's id at the broker. `look_again_at` is set
-- once a message that must have an effect is published: the reconciler then looks whether it had.
CREATE TABLE outbox (
    shard             integer     NOT NULL,
    outbox_id         uuid        NOT NULL,
    media_id          uuid        NOT NULL,
    generation        integer     NOT NULL,
    kind              text        NOT NULL,
    task_id           uuid,
    subject           text        NOT NULL,
    body              bytea       NOT NULL,
    traceparent       text        NOT NULL DEFAULT '',
    emission          integer     NOT NULL DEFAULT 0 CHECK (emission >= 0),
    created_at        timestamptz NOT NULL DEFAULT now(),
    not_before        timestamptz NOT NULL DEFAULT now(),
    published_at      timestamptz,
    look_again_at     timestamptz CHECK (look_again_at IS NULL OR published_at IS NOT NULL),
    PRIMARY KEY (shard, outbox_id),
    UNIQUE NULLS NOT DISTINCT (shard, media_id, generation, kind, task_id)
) PARTITION BY HASH (shard);

-- The relay: what is due.
CREATE INDEX outbox_unpublished ON outbox (not_before) WHERE published_at IS NULL;
-- The reconciler: what should have had its effect by now.
CREATE INDEX outbox_to_look_at ON outbox (look_again_at) WHERE look_again_at IS NOT NULL;
-- The reconciler: what is kept long enough.
CREATE INDEX outbox_settled ON outbox (published_at) WHERE published_at IS NOT NULL AND look_again_at IS NULL;

-- Eight hash partitions each: small indices and vacuums now, a natural unit to move later.
DO $$
DECLARE
    parent text;
    remainder integer;
BEGIN
    FOREACH parent IN ARRAY ARRAY['media', 'uploads', 'tasks', 'renditions', 'thumbnails', 'outbox'] LOOP
        FOR remainder IN 0..7 LOOP
            EXECUTE format(
                'CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS 8, REMAINDER %s)',
                parent || '_p' || remainder, parent, remainder
            );
        END LOOP;
    END LOOP;
END
$$;
