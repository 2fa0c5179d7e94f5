-- The lock of the reconciler. It touches no table.

-- name: try_lock
-- One reconciler at a time; the lock belongs to the connection and goes with it.
SELECT pg_try_advisory_lock($1);

-- name: unlock
-- The other half of `try_lock`.
SELECT pg_advisory_unlock($1);
