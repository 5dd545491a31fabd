-- Filters that few jobs of many pass, by indexes that find these few near any place in the history.
--
-- A page is in the order of time, and what a filter asks for is not. So time is cut into spans of half
-- a week, and names and confidences are in the order of the span first: what passes within one span is
-- found at once and put in order, span after span until the page is full. There are some 200 of them in
-- two years. Rows that come are next to those that have just come, which makes these indexes cheaper to
-- write than one in the order of names alone.

DROP INDEX jobs_by_name;
CREATE INDEX jobs_by_name ON jobs
    (owner, date_bin('84 hours', submitted_at, timestamptz '2000-01-01 00:00:00+00'), name, submitted_at, id)
    WHERE deleted_at IS NULL;

CREATE INDEX jobs_by_confidence ON jobs
    (owner, date_bin('84 hours', submitted_at, timestamptz '2000-01-01 00:00:00+00'), confidence)
    WHERE confidence IS NOT NULL AND deleted_at IS NULL;

-- There are few analyzers, versions and models, and many jobs of each.
CREATE INDEX jobs_by_analyzer ON jobs
    (owner, analyzer, analyzer_version, coalesce(model, ''), submitted_at DESC, id DESC)
    WHERE analyzer IS NOT NULL AND deleted_at IS NULL;
