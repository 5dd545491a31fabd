-- A foreign key has each new row of predictions look for its job and lock it, which came to nearly half
-- of what writing an image cost PostgreSQL. A persister holds the locks of the jobs already, so that
-- none of them can go before their predictions are committed; what the key is still needed for, that
-- the predictions of a job go with it, is done once a statement.

ALTER TABLE predictions DROP CONSTRAINT predictions_job_id_fkey;

CREATE FUNCTION remove_predictions() RETURNS trigger
LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        TRUNCATE predictions;
    ELSE
        DELETE FROM predictions p USING gone WHERE p.job_id = gone.id;
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION remove_predictions IS 'Removes the predictions of jobs whose rows were removed.';

CREATE TRIGGER jobs_removed AFTER DELETE ON jobs
REFERENCING OLD TABLE AS gone FOR EACH STATEMENT EXECUTE FUNCTION remove_predictions();
CREATE TRIGGER jobs_truncated AFTER TRUNCATE ON jobs
FOR EACH STATEMENT EXECUTE FUNCTION remove_predictions();

COMMENT ON COLUMN predictions.job_id IS
    'The job, which is there: whoever writes a row holds the lock of its job''s row.';
