-- Images that look alike are found by their perceptual hash, 64 bits of which few differ.
--
-- Cut into four bands of 16 bits, two hashes that differ in few bits are the same, or nearly so, in
-- one band at least: so a search looks for the few values that come near the band's own, and holds
-- the rest of the hash against what it finds. Values of a band repeat, and a B-tree stores those
-- once.
--
-- Null unless the job is done and has a hash; also in rows of a persister that is older than this.

ALTER TABLE jobs ADD COLUMN perceptual_hash bigint;

COMMENT ON COLUMN jobs.perceptual_hash IS 'The 64 bits of the newest result''s perceptual hash.';
COMMENT ON TABLE jobs IS
    'What was accepted, a row a job. The columns run, state, label, confidence, analyzer, analyzer_version, model, perceptual_hash and finished_at repeat the newest row of predictions, so that pages of the history can be found by index.';

UPDATE jobs j
SET perceptual_hash = ('x' || (p.properties ->> 'perceptual_hash'))::bit(64)::bigint
FROM predictions p
WHERE p.job_id = j.id AND p.run = j.run AND p.state = 'done'
  AND p.properties ->> 'perceptual_hash' ~ '^[0-9a-f]{16}$';

CREATE INDEX jobs_by_hash_0 ON jobs (owner, ((perceptual_hash & 65535)::integer))
    WHERE perceptual_hash IS NOT NULL;
CREATE INDEX jobs_by_hash_1 ON jobs (owner, ((perceptual_hash >> 16 & 65535)::integer))
    WHERE perceptual_hash IS NOT NULL;
CREATE INDEX jobs_by_hash_2 ON jobs (owner, ((perceptual_hash >> 32 & 65535)::integer))
    WHERE perceptual_hash IS NOT NULL;
CREATE INDEX jobs_by_hash_3 ON jobs (owner, ((perceptual_hash >> 48 & 65535)::integer))
    WHERE perceptual_hash IS NOT NULL;

-- How many values there are; PostgreSQL does not go by what it knows of a part of the rows.
CREATE STATISTICS jobs_hash_0 ON ((perceptual_hash & 65535)::integer) FROM jobs;
CREATE STATISTICS jobs_hash_1 ON ((perceptual_hash >> 16 & 65535)::integer) FROM jobs;
CREATE STATISTICS jobs_hash_2 ON ((perceptual_hash >> 32 & 65535)::integer) FROM jobs;
CREATE STATISTICS jobs_hash_3 ON ((perceptual_hash >> 48 & 65535)::integer) FROM jobs;

-- As before, and the hash goes with what was seen in the image.
CREATE OR REPLACE FUNCTION erase_job(which uuid, whose text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE jobs
    SET deleted_at = coalesce(deleted_at, now()),
        name = '',
        label = CASE WHEN label IS NOT NULL THEN '' END,
        perceptual_hash = NULL
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
