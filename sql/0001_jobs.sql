-- Jobs and what became of them.
--
-- Text that is compared or indexed has the collation "C": its order is that of the bytes, the
-- same on every machine and in every release of the operating system, and a prefix is a range.

CREATE TYPE job_state AS ENUM ('queued', 'done', 'failed');
COMMENT ON TYPE job_state IS 'Where a job stands. It never goes back to queued.';

CREATE TABLE jobs (
    id           uuid PRIMARY KEY,
    server       uuid NOT NULL,
    submitted_at timestamptz NOT NULL,
    finished_at  timestamptz,
    bytes        bigint NOT NULL CHECK (bytes >= 0),
    run          bigint CHECK (run BETWEEN 0 AND 4294967295),
    confidence   double precision,
    state        job_state NOT NULL DEFAULT 'queued',
    priority     smallint NOT NULL CHECK (priority BETWEEN 0 AND 9),
    sha256       bytea NOT NULL CHECK (octet_length(sha256) = 32),
    owner        text COLLATE "C" NOT NULL,
    name         text COLLATE "C" NOT NULL,
    label        text COLLATE "C",
    CONSTRAINT jobs_result_is_whole CHECK (
        (run IS NULL) = (state = 'queued')
        AND (finished_at IS NULL) = (state = 'queued')
        AND (label IS NULL) = (state <> 'done')
        AND (confidence IS NULL) = (state <> 'done')
    )
);
COMMENT ON TABLE jobs IS
    'What was accepted, a row a job. The columns run, state, label, confidence and finished_at repeat the newest row of predictions, so that pages of the history can be found by index.';
COMMENT ON COLUMN jobs.id IS 'Given by the client; a UUID of version 7 by preference.';
COMMENT ON COLUMN jobs.owner IS 'Whose it is. An event counts only if id, owner and sha256 all match.';
COMMENT ON COLUMN jobs.name IS 'The image''s name as the client gave it; somebody else''s text.';
COMMENT ON COLUMN jobs.bytes IS 'The size of the image.';
COMMENT ON COLUMN jobs.priority IS '0 (first) to 9 (last).';
COMMENT ON COLUMN jobs.submitted_at IS 'When the server accepted it, by the server''s clock; pages are in this order.';
COMMENT ON COLUMN jobs.server IS 'The server that accepted it and keeps the file.';
COMMENT ON COLUMN jobs.run IS 'The newest run with a result: 0 is the submission, each reanalysis adds one.';
COMMENT ON COLUMN jobs.confidence IS 'In percent: 0 to 100.';

CREATE TABLE predictions (
    job_id           uuid NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,
    run              bigint NOT NULL CHECK (run BETWEEN 0 AND 4294967295),
    finished_at      timestamptz NOT NULL,
    queued_us        bigint NOT NULL CHECK (queued_us >= 0),
    analysis_us      bigint NOT NULL CHECK (analysis_us >= 0),
    attempts         bigint NOT NULL CHECK (attempts >= 0),
    confidence       double precision,
    state            job_state NOT NULL CHECK (state <> 'queued'),
    worker           text,
    analyzer         text,
    analyzer_version text,
    model            bytea CHECK (octet_length(model) = 32),
    label            text COLLATE "C",
    scores           jsonb,
    properties       jsonb,
    reason           text,
    detail           text,
    PRIMARY KEY (job_id, run),
    CONSTRAINT predictions_outcome_is_whole CHECK (
        CASE state
            WHEN 'done' THEN
                num_nulls(analyzer, analyzer_version, label, confidence, scores, properties) = 0
                AND num_nonnulls(reason, detail) = 0
            ELSE
                num_nonnulls(analyzer, analyzer_version, model, label, confidence, scores, properties) = 0
                AND num_nulls(reason, detail) = 0
        END
    )
);
COMMENT ON TABLE predictions IS
    'What became of each run of a job. A row is written once: the same run again changes nothing.';
COMMENT ON COLUMN predictions.worker IS 'The worker''s node name; null if no worker had a part in it.';
COMMENT ON COLUMN predictions.attempts IS 'How many times a worker took it up.';
COMMENT ON COLUMN predictions.queued_us IS 'From acceptance to the start of the analysis, in microseconds.';
COMMENT ON COLUMN predictions.analysis_us IS 'Fetching and analysing, in microseconds.';
COMMENT ON COLUMN predictions.finished_at IS 'When it ended, by the worker''s clock.';
COMMENT ON COLUMN predictions.model IS 'The SHA-256 of the model file, if there is one.';
COMMENT ON COLUMN predictions.scores IS 'The best labels, best first: [{"label": …, "confidence": …}, …].';
COMMENT ON COLUMN predictions.properties IS 'What can be said of the image without a classifier: format, width, height, extra.';
COMMENT ON COLUMN predictions.reason IS 'The stable reason of a failure; detail says it for people.';

-- A page of an owner's history, newest first.
CREATE INDEX jobs_by_time ON jobs (owner, submitted_at DESC, id DESC);

-- The same with a label. Only the label's beginning is in the index, for a row of an index has
-- little room and a label may be any text: a long one must not keep its job out of the history.
CREATE INDEX jobs_by_label ON jobs (owner, left(label, 100), submitted_at DESC, id DESC)
    WHERE label IS NOT NULL;

-- What is queued or failed is rare among what is done; what is done is found by time.
CREATE INDEX jobs_not_done ON jobs (owner, state, submitted_at DESC, id DESC)
    WHERE state <> 'done';

-- Names by prefix.
CREATE INDEX jobs_by_name ON jobs (owner, name);
