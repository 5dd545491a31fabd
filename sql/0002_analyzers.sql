-- By whom the newest result of a job is, so that what an older analyzer has said is found, to be
-- analysed once more.
--
-- Null unless the job is done; also in rows of a persister that is older than this and still runs,
-- which is why there is no constraint that says so.

ALTER TABLE jobs
    ADD COLUMN analyzer         text COLLATE "C",
    ADD COLUMN analyzer_version text COLLATE "C",
    ADD COLUMN model            bytea;

COMMENT ON TABLE jobs IS
    'What was accepted, a row a job. The columns run, state, label, confidence, analyzer, analyzer_version, model and finished_at repeat the newest row of predictions, so that pages of the history can be found by index.';

UPDATE jobs j
SET analyzer = p.analyzer, analyzer_version = p.analyzer_version, model = p.model
FROM predictions p
WHERE p.job_id = j.id AND p.run = j.run AND p.state = 'done';
