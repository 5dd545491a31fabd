-- What is found of a span by its confidence is put in the order of time, of which a page is only the
-- newest. With the time and the id in the index, as in that over names, only the page's own rows are
-- read from the table, wherever they lie, instead of all those of the span.

DROP INDEX jobs_by_confidence;
CREATE INDEX jobs_by_confidence ON jobs
    (owner, date_bin('84 hours', submitted_at, timestamptz '2000-01-01 00:00:00+00'), confidence, submitted_at, id)
    WHERE confidence IS NOT NULL AND deleted_at IS NULL;
