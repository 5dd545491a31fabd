INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence, state, priority, sha256,
                  owner, name, label, analyzer, analyzer_version, model, perceptual_hash)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3)
            || '8' || substr(hash, 4, 15))::uuid,
       '11111111-1111-4111-8111-111111111111', at,
       CASE WHEN state <> 'queued' THEN at + interval '1 s' END,
       1000000 + (4000000 * chance(n, 6))::bigint,
       CASE WHEN state <> 'queued' THEN run END,
       confidence, state, 5, sha256(n::text::bytea),
       CASE WHEN n % 50 = 0 THEN 'owner-' || n / 50 % 20 ELSE 'local' END,
       CASE WHEN n % 33 = 0 THEN 'scans/page-' || n
            ELSE to_char(at AT TIME ZONE 'UTC', '"photos/"YYYY/MM/DD"/IMG_"') || n || '.jpg' END,
       label, analyzer, version, model, perceptual_hash
FROM made
