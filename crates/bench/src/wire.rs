//! The two protocols: what a submit looks like, and what an answer says. Heads are encoded once and
//! patched for each image, so that the generator takes little of the machine.

use crate::image::Images;
use anyhow::{Context, bail};
use imgsys_proto::{
    ClientMessage, PREFIX_LEN, Prefix, ServerMessage, VERSION, decode, encode,
    message::{Hello, Submit},
};
use imgsys_types::{Digest, JobId, Outcome, Priority};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// An imgsys server.
    Imgsys,
    /// The server of bench/peer.
    Peer,
}

/// What an answer says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The connection may be used.
    Welcome,
    /// An image is safe.
    Accepted,
    /// The image of this number was analysed.
    Ended(u64),
}

/// What all images have for a name.
const NAME: &str = "image.bmp";
/// Written in nine bytes whatever comes later, so that it can be patched.
const REQ: u64 = 1 << 40;
/// What is looked for in an encoded submit: job and digest stand where these are.
const JOB: [u8; 16] = [0x5a; 16];
const DIGEST: [u8; 32] = [0xa5; 32];
/// The bits of a job's id that hold the image's number, behind the two of the variant.
const NUMBER: u64 = (1 << 62) - 1;

/// The kinds of frames of the peer, and the length of their beginning: kind, an empty byte, lengths
/// of the text and of the body, and the image's number.
const PEER_IMAGE: u8 = 1;
const PEER_RESULT: u8 = 11;
const PEER_HEADER: usize = 16;

/// Heads of submits of images of one size.
#[derive(Debug, Clone)]
pub(crate) struct Submits {
    template: Vec<u8>,
    /// Where number, job and digest go; the peer has only the number.
    number: usize,
    job: Option<(usize, usize)>,
}

impl Submits {
    /// For images of so many bytes. With `watch` unset nobody is told how they end.
    pub(crate) fn new(
        wire: Wire,
        size: usize,
        priority: Priority,
        watch: bool,
    ) -> anyhow::Result<Self> {
        match wire {
            Wire::Imgsys => Self::imgsys(size, priority, watch),
            Wire::Peer => Self::peer(size),
        }
    }

    fn imgsys(size: usize, priority: Priority, watch: bool) -> anyhow::Result<Self> {
        let submit = ClientMessage::Submit(Submit {
            req: REQ,
            job: JobId::from_bytes(JOB),
            name: NAME.into(),
            size: size as u64,
            sha256: Digest::from_bytes(DIGEST),
            priority,
            watch,
        });
        let mut template = Vec::new();
        encode(&submit, size as u64, &mut template)?;
        let at = |pattern: &[u8]| {
            let mut windows = template.windows(pattern.len());
            windows.position(|window| window == pattern)
        };
        let number = at(&REQ.to_be_bytes()).context("finding the number in a submit")?;
        let job = at(&JOB).context("finding the job in a submit")?;
        let digest = at(&DIGEST).context("finding the digest in a submit")?;
        Ok(Self {
            template,
            number,
            job: Some((job, digest)),
        })
    }

    fn peer(size: usize) -> anyhow::Result<Self> {
        let text = format!("{{\"name\":\"{NAME}\"}}");
        let mut template = vec![PEER_IMAGE, 0];
        template.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
        template.extend_from_slice(&u32::try_from(size)?.to_be_bytes());
        let number = template.len();
        template.extend_from_slice(&[0; 8]);
        template.extend_from_slice(text.as_bytes());
        Ok(Self {
            template,
            number,
            job: None,
        })
    }

    /// Writes the head of this image's submit into `out`, in place of what is there.
    pub(crate) fn write(
        &self,
        number: u64,
        images: &Images,
        tail: [u8; crate::image::TAIL],
        out: &mut Vec<u8>,
    ) {
        out.clear();
        out.extend_from_slice(&self.template);
        let mut put = |at: usize, bytes: &[u8]| out[at..at + bytes.len()].copy_from_slice(bytes);
        match self.job {
            None => put(self.number, &number.to_be_bytes()),
            Some((job, digest)) => {
                put(self.number, &(REQ | number).to_be_bytes());
                put(job, &id(number));
                put(digest, images.digest(tail).as_bytes());
            }
        }
    }
}

/// Turns the head of a submit into that of one without a body: the server has the image already.
pub(crate) fn without_body(head: &mut [u8]) {
    // The second half of the prefix is the body's length.
    if let Some(prefix) = head.first_chunk_mut::<PREFIX_LEN>() {
        prefix[PREFIX_LEN / 2..].fill(0);
    }
}

/// An id of version 7 made now, as the server likes them best, with the number in its random bits.
fn id(number: u64) -> [u8; 16] {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let mut id = [0; 16];
    let millis = u64::try_from(now.as_millis()).unwrap_or_default();
    id[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
    let [.., high, low] = now.subsec_nanos().to_be_bytes();
    id[6] = 0x70 | high & 0x0f;
    id[7] = low;
    id[8..].copy_from_slice(&(1 << 63 | number & NUMBER).to_be_bytes());
    id
}

/// The number in such an id.
fn number_of(job: JobId) -> u64 {
    let low = job.as_bytes().last_chunk().copied().unwrap_or_default();
    u64::from_be_bytes(low) & NUMBER
}

impl Wire {
    /// What a connection begins with.
    pub(crate) fn hello(self) -> anyhow::Result<Vec<u8>> {
        let mut out = Vec::new();
        if self == Self::Imgsys {
            let hello = ClientMessage::Hello(Hello {
                version: VERSION,
                program: "imgsys-bench".into(),
                token: None,
            });
            encode(&hello, 0, &mut out)?;
        }
        Ok(out)
    }

    /// The first answer in `bytes` and its length, if it is there whole. A refusal is an error: under
    /// a load that is within the limits there is none.
    pub(crate) fn answer(self, bytes: &[u8]) -> anyhow::Result<Option<(usize, Answer)>> {
        match self {
            Self::Imgsys => imgsys_answer(bytes),
            Self::Peer => peer_answer(bytes),
        }
    }
}

fn imgsys_answer(bytes: &[u8]) -> anyhow::Result<Option<(usize, Answer)>> {
    let Some(prefix) = bytes.first_chunk::<PREFIX_LEN>() else {
        return Ok(None);
    };
    let len = PREFIX_LEN + Prefix::parse(*prefix)?.head;
    let Some(head) = bytes.get(PREFIX_LEN..len) else {
        return Ok(None);
    };
    // Half of all answers, of which nothing more needs to be known.
    if head.get(1..10) == Some(b"\x68accepted") {
        return Ok(Some((len, Answer::Accepted)));
    }
    let answer = match decode(head)? {
        ServerMessage::Welcome(_) => Answer::Welcome,
        ServerMessage::Result(end) => match end.result.outcome {
            Outcome::Done(_) => Answer::Ended(number_of(end.job)),
            Outcome::Failed(failure) => bail!("an analysis failed: {failure:?}"),
        },
        other => bail!("unexpected: {other:?}"),
    };
    Ok(Some((len, answer)))
}

fn peer_answer(bytes: &[u8]) -> anyhow::Result<Option<(usize, Answer)>> {
    let Some(&[kind, _, t0, t1, b0, b1, b2, b3, ref number @ ..]) =
        bytes.first_chunk::<PEER_HEADER>()
    else {
        return Ok(None);
    };
    let text = usize::from(u16::from_be_bytes([t0, t1]));
    let len = PEER_HEADER + text + u32::from_be_bytes([b0, b1, b2, b3]) as usize;
    let Some(rest) = bytes.get(PEER_HEADER..len) else {
        return Ok(None);
    };
    if kind != PEER_RESULT {
        let text = String::from_utf8_lossy(rest);
        bail!("the peer says {kind}: {text}");
    }
    Ok(Some((len, Answer::Ended(u64::from_be_bytes(*number)))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_patched_submit_is_the_message_that_it_should_be() {
        let images = Images::bitmaps(1000);
        let submits = Submits::new(Wire::Imgsys, images.size(), Priority::default(), true).unwrap();
        let mut out = Vec::new();
        submits.write(77, &images, [3; 16], &mut out);
        let head = &out[PREFIX_LEN..];
        let ClientMessage::Submit(submit) = decode(head).unwrap() else {
            panic!("no submit");
        };
        assert_eq!(submit.req, REQ + 77);
        assert_eq!(submit.sha256, images.digest([3; 16]));
        assert_eq!(submit.size, images.size() as u64);
        assert_eq!(number_of(submit.job), 77);
        assert!(submit.job.unix_millis().is_some());
    }

    #[test]
    fn answers_of_the_peer_are_read_as_they_come() {
        let frame = [b"\x0b\0\0\x02\0\0\0\0\0\0\0\0\0\0\0\x09".as_slice(), b"{}"].concat();
        assert_eq!(Wire::Peer.answer(&frame[..17]).unwrap(), None);
        let whole = Some((18, Answer::Ended(9)));
        assert_eq!(Wire::Peer.answer(&frame).unwrap(), whole);
    }
}
