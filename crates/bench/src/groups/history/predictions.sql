INSERT INTO predictions (job_id, run, finished_at, queued_us, analysis_us, attempts, confidence, state, worker,
                         analyzer, analyzer_version, model, label, scores, properties, reason, detail)
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(hash, 1, 3)
            || '8' || substr(hash, 4, 15))::uuid,
       run, at + interval '1 s', 12345, 67890, 1, confidence, state, 'imgsys-0123456789@host',
       analyzer, version, model, label,
       CASE WHEN state = 'done' THEN
           ('[{"label": "' || label || '", "confidence": ' || confidence || '}, {"label": "label 1", "confidence": 0.75}]')::jsonb
       END,
       CASE WHEN state = 'done' THEN
           ('{"format": "jpeg", "width": 4032, "height": 3024, "color_type": "rgb", "bit_depth": 8, "sharpness": 512.25,
              "exposure": {"mean": 48.5, "shadows": 1.25, "highlights": 0.5}, "flags": ["dark"],
              "perceptual_hash": "' || substr(hash, 1, 16) || '"}')::jsonb
       END,
       CASE WHEN state = 'failed' THEN 'corrupt' END,
       CASE WHEN state = 'failed' THEN 'the file ends too early' END
FROM made
WHERE state <> 'queued'
