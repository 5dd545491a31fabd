-- Five million jobs of two years, as an archive of photographs might have them. What a job is like
-- follows from its number by hashes, so that every run has the same rows.
--
-- Nearly all are of one owner, beside twenty small ones. Of a hundred one has failed, and a few are
-- under way. The older two fifths were analysed by an older model, nine tenths of them once more
-- since; the very first were simulated. Labels are as unlike in number as words are, and confidence
-- is high more often than not.

-- Between 0 and 1.
CREATE FUNCTION chance(n bigint, what bigint) RETURNS double precision
LANGUAGE sql IMMUTABLE
RETURN (hashint8extended(n, what) & 4294967295) / 4294967296.0;

CREATE TABLE span AS SELECT now() - interval '730 days' AS first, interval '730 days' / ROWS AS each;

CREATE VIEW made AS
SELECT n, at, md5(n::text) AS hash, state,
       CASE WHEN again THEN 1 ELSE 0 END AS run,
       CASE WHEN state = 'done' THEN 'label ' || floor(1000 * chance(n, 1) ^ 4) END AS label,
       CASE WHEN state = 'done' THEN 100 * (1 - 0.85 * chance(n, 2) ^ 2) END AS confidence,
       CASE WHEN state = 'done' THEN CASE WHEN simulated THEN 'simulated' ELSE 'onnx' END END AS analyzer,
       CASE WHEN state = 'done' THEN
           CASE WHEN simulated THEN '1' WHEN old THEN '1+0badcafe' ELSE '1+cafebabe' END
       END AS version,
       CASE WHEN state = 'done' AND NOT simulated THEN
           CASE WHEN old THEN sha256('old') ELSE sha256('new') END
       END AS model,
       CASE WHEN state = 'done' THEN hashint8extended(n, 3) END AS perceptual_hash
FROM (SELECT n, first + n * each AS at,
             (CASE WHEN n > ROWS - 10 THEN 'queued'
                   WHEN chance(n, 4) < 0.01 THEN 'failed'
                   ELSE 'done' END)::job_state AS state,
             n < ROWS * 0.4 AND chance(n, 5) < 0.1 AS old,
             n < ROWS * 0.4 AND chance(n, 5) >= 0.1 AND n >= ROWS * 0.002 AS again,
             n < ROWS * 0.002 AS simulated
      FROM span, generate_series(1::bigint, ROWS) AS n) AS of_it;
