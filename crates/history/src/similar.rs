//! Images that look alike: the hashes within a Hamming distance, by index.
//!
//! A hash is cut into bands, each of which has an index. If two hashes differ in at most d bits,
//! then for any radii of the bands whose sum is d − bands + 1 they differ within the radius in one
//! band at least: were there more than that in each, the sum would be over d. A radius of −1 leaves
//! its band out. So the values within each radius of the band's own are looked up, and the whole
//! hash is held against what is found. (M. Norouzi, A. Punjani, D. Fleet, *Fast Exact Search in
//! Hamming Space with Multi-Index Hashing*, 2014; radii that differ: J. Qin et al., *GPH*, 2018.)

use crate::value::{COLUMNS, band, bits};
use imgsys_types::{JobId, Owner, PerceptualHash};
use postgres_types::{ToSql, Type};
use std::fmt::Write as _;

/// Pieces of the hash that have an index of their own, see sql/.
const BANDS: usize = 4;

/// A statement that finds images that look alike, and its values.
pub(crate) struct Search {
    pub(crate) sql: String,
    owner: String,
    hash: i64,
    distance: i64,
    except: uuid::Uuid,
    limit: i64,
    values: Vec<Vec<i32>>,
}

impl Search {
    /// Up to `limit` jobs of this owner but `except` whose hash differs in at most `distance` bits,
    /// the most alike first, among equals the newest.
    pub(crate) fn new(
        owner: &Owner,
        hash: PerceptualHash,
        distance: u32,
        except: JobId,
        limit: u32,
    ) -> Self {
        let mut near = String::new();
        let mut values = Vec::new();
        for (number, radius) in (0_u32..).zip(radii(distance)) {
            let Some(radius) = radius else { continue };
            let value = band(hash, number);
            let within = (0..=u16::MAX).filter(|mask| mask.count_ones() <= radius);
            values.push(within.map(|mask| i32::from(value ^ mask)).collect());
            let or = if near.is_empty() { "" } else { " OR " };
            let (shift, place) = (16 * number, 5 + values.len());
            // Written as in sql/, or no index is found. Writing to a string can't fail.
            let _ = if number == 0 {
                write!(
                    near,
                    "{or}(perceptual_hash & 65535)::integer = ANY(${place})"
                )
            } else {
                write!(
                    near,
                    "{or}(perceptual_hash >> {shift} & 65535)::integer = ANY(${place})"
                )
            };
        }
        let differing = "bit_count((perceptual_hash # $2)::bit(64))";
        let sql = format!(
            "SELECT {COLUMNS}, j.distance FROM (
                 SELECT *, {differing} AS distance FROM jobs
                 WHERE owner = $1 AND perceptual_hash IS NOT NULL AND ({near})
                   AND {differing} <= $3 AND id <> $4
                 ORDER BY distance, submitted_at DESC, id DESC LIMIT $5) j
             LEFT JOIN predictions p ON p.job_id = j.id AND p.run = j.run
             ORDER BY j.distance, j.submitted_at DESC, j.id DESC"
        );
        Self {
            sql,
            owner: owner.as_str().to_owned(),
            hash: bits(hash),
            distance: distance.into(),
            except: except.uuid(),
            limit: limit.into(),
            values,
        }
    }

    pub(crate) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        let mut params: Vec<(&(dyn ToSql + Sync), Type)> = vec![
            (&self.owner, Type::TEXT),
            (&self.hash, Type::INT8),
            (&self.distance, Type::INT8),
            (&self.except, Type::UUID),
            (&self.limit, Type::INT8),
        ];
        for values in &self.values {
            params.push((values, Type::INT4_ARRAY));
        }
        params
    }
}

/// How many bits may differ in each band; a band may be left out.
fn radii(distance: u32) -> [Option<u32>; BANDS] {
    // The sum of (radius + 1) is distance + 1.
    let mut radii = [None; BANDS];
    for bit in 0..=distance as usize {
        let radius: &mut Option<u32> = &mut radii[bit % BANDS];
        *radius = Some(radius.map_or(0, |radius| radius + 1));
    }
    radii
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect, migrate};

    #[test]
    fn the_radii_leave_no_pair_out() {
        assert_eq!(radii(0), [Some(0), None, None, None]);
        assert_eq!(radii(4), [Some(1), Some(0), Some(0), Some(0)]);
        assert_eq!(radii(10), [Some(2), Some(2), Some(2), Some(1)]);
        for distance in 0..=PerceptualHash::MAX_DISTANCE {
            // One more in each band than its radius: the least that no band finds.
            let escaping: u32 = radii(distance)
                .iter()
                .map(|radius| radius.map_or(0, |radius| radius + 1))
                .sum();
            assert!(escaping > distance, "{distance}");
        }
    }

    #[test]
    fn each_search_has_its_indexes() {
        let server = imgsys_local::TestPostgres::start().unwrap();
        let mut client = connect(&server.url()).unwrap();
        migrate(&mut client).unwrap();
        client
            .batch_execute(
                "INSERT INTO jobs (id, server, submitted_at, finished_at, bytes, run, confidence,
                                   state, priority, sha256, owner, name, label, perceptual_hash)
                 SELECT gen_random_uuid(), gen_random_uuid(), now(), now(), 1, 0, 50, 'done', 5,
                        sha256(n::text::bytea), 'local', 'image ' || n, 'cat',
                        ('x' || substr(md5(n::text), 1, 16))::bit(64)::bigint
                 FROM generate_series(1, 20000) AS n;
                 ANALYZE jobs;
                 -- Of so few it would be as quick to read all; the bench has a million.
                 SET enable_seqscan = off",
            )
            .unwrap();
        let hash = PerceptualHash::from_bits(0x0123_4567_89ab_cdef);
        for distance in 0..=PerceptualHash::MAX_DISTANCE {
            let search = Search::new(&Owner::local(), hash, distance, JobId::generate(), 20);
            let rows = client.query_typed(&format!("EXPLAIN {}", search.sql), &search.params());
            let lines = rows.unwrap().into_iter().map(|row| row.get(0));
            let plan = lines.collect::<Vec<String>>().join("\n");
            let bands = usize::try_from(distance).unwrap() + 1;
            for band in 0..bands.min(BANDS) {
                assert!(
                    plan.contains(&format!("jobs_by_hash_{band}")),
                    "{distance}: {plan}"
                );
            }
            assert!(!plan.contains("Seq Scan on jobs"), "{distance}: {plan}");
        }
        let digest = imgsys_types::Digest::from_bytes([7; 32]);
        let rows = client.query_typed(
            &format!("EXPLAIN {}", crate::read::of_image()),
            &crate::read::of_image_params(&"local", &digest.as_bytes().as_slice()),
        );
        let lines = rows.unwrap().into_iter().map(|row| row.get(0));
        let plan = lines.collect::<Vec<String>>().join("\n");
        assert!(plan.contains("jobs_by_sha256"), "{plan}");
    }
}
