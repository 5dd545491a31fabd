-- Jobs that their owner has deleted: the row stays, without what is personal, and in no index that
-- the history is read by.

ALTER TABLE jobs ADD COLUMN deleted_at timestamptz;
COMMENT ON COLUMN jobs.deleted_at IS
    'When its owner had it deleted: its name and what was seen in the image are gone, and so is the file unless another job has the same image.';

DROP INDEX jobs_by_time;
CREATE INDEX jobs_by_time ON jobs (owner, submitted_at DESC, id DESC) WHERE deleted_at IS NULL;

DROP INDEX jobs_by_label;
CREATE INDEX jobs_by_label ON jobs (owner, left(label, 100), submitted_at DESC, id DESC)
    WHERE label IS NOT NULL AND deleted_at IS NULL;

DROP INDEX jobs_not_done;
CREATE INDEX jobs_not_done ON jobs (owner, state, submitted_at DESC, id DESC)
    WHERE state <> 'done' AND deleted_at IS NULL;

DROP INDEX jobs_by_name;
CREATE INDEX jobs_by_name ON jobs (owner, name) WHERE deleted_at IS NULL;

-- Whether another job has the same image.
CREATE INDEX jobs_by_sha256 ON jobs USING hash (sha256) WHERE deleted_at IS NULL;

-- Whose image files are to go, should a server have died before it removed them.
CREATE INDEX jobs_deleted ON jobs (server, deleted_at) WHERE deleted_at IS NOT NULL;

CREATE FUNCTION erase_job(which uuid, whose text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE jobs
    SET deleted_at = coalesce(deleted_at, now()),
        name = '',
        label = CASE WHEN label IS NOT NULL THEN '' END
    WHERE id = which AND owner = whose AND state <> 'queued';
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Sees the runs that a persister wrote while the row above was waited for; those that come
    -- after it find the job deleted.
    UPDATE predictions
    SET label = CASE WHEN label IS NOT NULL THEN '' END,
        scores = CASE WHEN scores IS NOT NULL THEN '[]'::jsonb END,
        properties = CASE WHEN properties IS NOT NULL THEN jsonb_build_object(
            'format', properties->'format',
            'width', properties->'width',
            'height', properties->'height') END,
        detail = CASE WHEN detail IS NOT NULL THEN '' END
    WHERE job_id = which;
    RETURN true;
END $$;
COMMENT ON FUNCTION erase_job IS
    'Erases what is personal of an owner''s job that has ended, and marks it as deleted; false if there is none such. The file is the server''s to remove.';
