//! The records of the log.
//!
//! A record begins with twelve bytes: its kind, its flags, two zeros, the length of what follows
//! (four bytes, little-endian), and a CRC-32 of all that but itself. What follows is fields (see
//! `fields`), or ids one after the other.
//!
//! | kind | | then |
//! |---|---|---|
//! | 1 | accepted | fields: the job and its run, with the result of the run before |
//! | 2 | result | fields: the job's id, and what its run came to |
//! | 3 | gone | the ids of jobs that have left the spool |
//! | 4 | forgotten | the digests of images that nobody is known to have sent any more |

use super::{
    fields::{Encoder, Malformed},
    job::{self, Glance},
};
use crate::Spooled;
use imgsys_types::{Digest, JobId, JobResult, Run};

/// The bytes before what a record says.
pub(crate) const HEAD: usize = 12;

/// What the checksums of a store's log begin with. A number of the store's own, so that nobody
/// can send a name that passes for a part of the log, and no file of another store's for its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Salt(pub(crate) u32);

impl Salt {
    pub(crate) fn checksum(self, parts: &[&[u8]]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        for part in parts {
            hasher.update(part);
        }
        hasher.finalize()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Accepted,
    Result,
    Gone,
    Forgotten,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Accepted => 1,
            Self::Result => 2,
            Self::Gone => 3,
            Self::Forgotten => 4,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Accepted,
            2 => Self::Result,
            3 => Self::Gone,
            4 => Self::Forgotten,
            _ => return None,
        })
    }
}

/// What accepting a job did besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Flags {
    /// The owner was not known to have sent this image.
    pub(crate) made_known: bool,
    /// The image's bytes came with the job, and count as sent that day.
    pub(crate) came: bool,
    /// The image's file is flushed together with this record.
    pub(crate) written: bool,
}

impl Flags {
    fn bits(self) -> u8 {
        u8::from(self.made_known) | u8::from(self.came) << 1 | u8::from(self.written) << 2
    }

    const fn from_bits(bits: u8) -> Self {
        Self {
            made_known: bits & 1 != 0,
            came: bits & 2 != 0,
            written: bits & 4 != 0,
        }
    }
}

/// A record as it lies in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) kind: Kind,
    flags: u8,
    payload: &'a [u8],
}

/// What a record says, as far as the start has to know.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    Accepted(Flags, Glance<'a>),
    Result(JobId),
    Gone(&'a [[u8; 16]]),
    Forgotten(&'a [[u8; 32]]),
}

impl<'a> Record<'a> {
    /// The first record of these bytes, and how many it takes. Its checksum is not looked at.
    pub(crate) fn first_of(bytes: &'a [u8]) -> Result<(Self, usize), Malformed> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(SHORT)?;
        let [code, flags, _, _, a, b, c, d, ..] = *head;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).map_err(|_| SHORT)?;
        let kind = Kind::from_code(code).ok_or(Malformed("a record of an unknown kind"))?;
        let payload = rest.get(..len).ok_or(SHORT)?;
        let record = Self {
            kind,
            flags,
            payload,
        };
        Ok((record, HEAD + len))
    }

    /// These bytes as one record that is whole.
    pub(crate) fn whole(bytes: &'a [u8], salt: Salt) -> Result<Self, Malformed> {
        let (record, len) = Self::first_of(bytes)?;
        let (head, sum) = bytes
            .split_first_chunk::<8>()
            .and_then(|(head, rest)| Some((head, rest.first_chunk::<4>()?)))
            .ok_or(SHORT)?;
        let expected = salt.checksum(&[head, record.payload]);
        if len == bytes.len() && u32::from_le_bytes(*sum) == expected {
            Ok(record)
        } else {
            Err(Malformed("its checksum is another"))
        }
    }

    pub(crate) fn said(&self) -> Result<Said<'a>, Malformed> {
        Ok(match self.kind {
            Kind::Accepted => {
                Said::Accepted(Flags::from_bits(self.flags), job::glance(self.payload)?)
            }
            Kind::Result => Said::Result(job::job_of_result(self.payload)?),
            Kind::Gone => Said::Gone(ids(self.payload)?),
            Kind::Forgotten => Said::Forgotten(ids(self.payload)?),
        })
    }

    pub(crate) fn accepted(&self) -> Result<Spooled, Malformed> {
        match self.kind {
            Kind::Accepted => job::decode_accepted(self.payload),
            _ => Err(KIND),
        }
    }

    pub(crate) fn result(&self) -> Result<(JobId, JobResult), Malformed> {
        match self.kind {
            Kind::Result => job::decode_result(self.payload),
            _ => Err(KIND),
        }
    }
}

fn ids<const N: usize>(bytes: &[u8]) -> Result<&[[u8; N]], Malformed> {
    match bytes.as_chunks() {
        (ids, []) => Ok(ids),
        _ => Err(Malformed("half an id")),
    }
}

const SHORT: Malformed = Malformed("a record without an end");
const KIND: Malformed = Malformed("a record of another kind");

/// Writes records to the end of a buffer.
#[derive(Debug)]
pub(crate) struct Records<'a> {
    pub(crate) to: &'a mut Vec<u8>,
    pub(crate) salt: Salt,
}

impl Records<'_> {
    pub(crate) fn accepted(&mut self, flags: Flags, run: &Run, last: Option<&JobResult>) {
        self.record(Kind::Accepted, flags.bits(), |to| {
            job::encode_accepted(&mut Encoder::new(to), run, last);
        });
    }

    pub(crate) fn result(&mut self, id: JobId, result: &JobResult) {
        self.record(Kind::Result, 0, |to| {
            job::encode_result(&mut Encoder::new(to), id, result);
        });
    }

    pub(crate) fn gone(&mut self, jobs: &[JobId]) {
        self.record(Kind::Gone, 0, |to| {
            for job in jobs {
                to.extend_from_slice(job.as_bytes());
            }
        });
    }

    pub(crate) fn forgotten(&mut self, images: &[Digest]) {
        self.record(Kind::Forgotten, 0, |to| {
            for image in images {
                to.extend_from_slice(image.as_bytes());
            }
        });
    }

    /// A record once more, without what it did besides.
    pub(crate) fn again(&mut self, record: &Record<'_>) {
        self.record(record.kind, 0, |to| to.extend_from_slice(record.payload));
    }

    fn record(&mut self, kind: Kind, flags: u8, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.to.len();
        self.to.extend_from_slice(&[kind.code(), flags]);
        self.to.extend_from_slice(&[0; HEAD - 2]);
        write(self.to);
        // No record comes near 4 GiB: a batch that does is refused as a whole.
        let len = self.to.len() - start - HEAD;
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        let Some((head, payload)) = self
            .to
            .get_mut(start..)
            .and_then(|record| record.split_first_chunk_mut::<HEAD>())
        else {
            return;
        };
        let [.., a, b, c, d, _, _, _, _] = head;
        [*a, *b, *c, *d] = len;
        let (said, sum) = head.split_at_mut(8);
        sum.copy_from_slice(&self.salt.checksum(&[said, payload]).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use imgsys_types::{
        Priority, Timestamp,
        arbitrary::{job_record, job_result},
    };
    use proptest::{collection::vec, prelude::*};

    const SALT: Salt = Salt(7);

    fn written(write: impl FnOnce(&mut Records<'_>)) -> Vec<u8> {
        let mut to = Vec::new();
        write(&mut Records {
            to: &mut to,
            salt: SALT,
        });
        to
    }

    proptest! {
        #[test]
        fn jobs_and_results_come_back(record in job_record(), last in job_result(), number in 1..9_u32) {
            let job = record.job.clone();
            let mut rerun = Run::submission(job.clone());
            rerun.number = number;
            rerun.priority = Priority::new(9).unwrap();
            rerun.accepted_at = Timestamp::from_micros(1);
            for (run, last) in [
                (Run::submission(job.clone()), None),
                (Run::submission(job.clone()), record.result.clone()),
                (rerun, Some(last.clone())),
            ] {
                let bytes = written(|to| to.accepted(Flags::default(), &run, last.as_ref()));
                let record = Record::whole(&bytes, SALT).unwrap();
                let Said::Accepted(_, glance) = record.said().unwrap() else { panic!() };
                prop_assert_eq!(glance.id, job.id);
                prop_assert_eq!(glance.owner, job.owner.as_str());
                prop_assert_eq!((glance.sha256, glance.size), (job.sha256, job.size));
                prop_assert_eq!((glance.submitted_at, glance.run), (job.submitted_at, run.number));
                prop_assert_eq!(glance.last_run, last.as_ref().map(|last| last.run));
                prop_assert_eq!(record.accepted().unwrap(), Spooled { run, result: last });
            }
            let bytes = written(|to| to.result(job.id, &last));
            let record = Record::whole(&bytes, SALT).unwrap();
            prop_assert!(matches!(record.said(), Ok(Said::Result(id)) if id == job.id));
            prop_assert_eq!(record.result().unwrap(), (job.id, last));
        }

        #[test]
        fn a_record_with_another_bit_is_none(last in job_result(), bit: prop::sample::Index) {
            let id = JobId::generate();
            let mut bytes = written(|to| to.result(id, &last));
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Record::whole(&bytes, SALT).is_err());
        }

        #[test]
        fn any_bytes_are_read_or_refused(
            mut bytes in vec(any::<u8>(), HEAD..300), kind in 0..6_u8, whole: bool,
        ) {
            bytes[0] = kind;
            if whole {
                let len = u32::try_from(bytes.len() - HEAD).unwrap();
                bytes[4..8].copy_from_slice(&len.to_le_bytes());
            }
            if let Ok((record, _)) = Record::first_of(&bytes) {
                let _ = (record.said(), record.accepted(), record.result());
            }
        }
    }

    #[test]
    fn ids_and_flags_come_back() {
        let jobs = [JobId::from_bytes([1; 16]), JobId::from_bytes([2; 16])];
        let bytes = written(|to| to.gone(&jobs));
        let record = Record::whole(&bytes, SALT).unwrap();
        assert!(matches!(record.said().unwrap(), Said::Gone(ids) if ids == [[1; 16], [2; 16]]));
        let bytes = written(|to| to.forgotten(&[Digest::from_bytes([3; 32])]));
        let record = Record::whole(&bytes, SALT).unwrap();
        assert!(matches!(record.said().unwrap(), Said::Forgotten(ids) if ids == [[3; 32]]));
        for bits in 0..8 {
            assert_eq!(Flags::from_bits(bits).bits(), bits);
        }
    }
}
