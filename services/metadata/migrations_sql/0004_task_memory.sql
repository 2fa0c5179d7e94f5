-- How much memory a task will take, for workers to know before they claim it; 0 where its plan did not say.

ALTER TABLE tasks ADD COLUMN memory_bytes bigint NOT NULL DEFAULT 0 CHECK (memory_bytes >= 0);
