//! The hot paths: what is done for each image, in the order of its way.
//!
//! Of the image there are few bytes, for callgrind's processor has no instructions for SHA-256:
//! what hashing would take is not what it takes.

use anyhow::{Context, ensure};
use bytes::Bytes;
use imgsys_analysis::{Depth, Limits, Options, Simulated, analyze};
use imgsys_proto::{
    ClientMessage, FrameReader, PREFIX_LEN, ServerMessage, decode, encode,
    message::{Accepted, JobEnd, Submit},
};
use imgsys_queue::{Task, events, measure};
use imgsys_store::{Durability, Image, Store, StoreOptions};
use imgsys_types::{Checksum, Digest, Job, JobId, JobRecord, arbitrary::typical};
use sha2::{Digest as _, Sha256};
use std::{hint::black_box, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// The names of [`counting_begins`] and [`counting_ends`], by which callgrind knows them.
pub(crate) const BEGINS: &str = "counting_begins";
pub(crate) const ENDS: &str = "counting_ends";

/// Before anything is counted: what is made once, and what memory is held.
const FIRST: u32 = 20;
const ROUNDS: u32 = 200;

/// Runs each path, and says which, and how often.
pub(crate) fn run() -> anyhow::Result<()> {
    let record = typical();
    let runtime = Builder::new_current_thread()
        .build()
        .context("making a runtime")?;
    frames(&record, &runtime)?;
    queue(&record)?;
    analysis()?;
    store(&record, &runtime)
}

/// Never part of another function, and never the same as the next, so that both can be told apart.
#[inline(never)]
fn counting_begins() {
    black_box(1);
}

#[inline(never)]
fn counting_ends() {
    black_box(2);
}

fn path<T>(name: &str, mut path: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<()> {
    let mut once = || path().map(|out| drop(black_box(out)));
    (0..FIRST).try_for_each(|_| once())?;
    counting_begins();
    (0..ROUNDS).try_for_each(|_| once())?;
    counting_ends();
    println!("{name}\t{ROUNDS}");
    Ok(())
}

fn frames(record: &JobRecord, runtime: &Runtime) -> anyhow::Result<()> {
    let job = &record.job;
    let submit = ClientMessage::Submit(Submit {
        req: 1000,
        job: job.id,
        name: job.name.clone(),
        size: job.size,
        sha256: job.sha256,
        priority: job.priority,
        watch: true,
    });
    let accepted = ServerMessage::Accepted(Accepted {
        req: 1000,
        job: job.id,
        duplicate: false,
        submitted_at: job.submitted_at,
    });
    let result = ServerMessage::Result(JobEnd {
        job: job.id,
        sha256: job.sha256,
        result: record.result.clone().context("no result")?,
    });
    let mut out = Vec::with_capacity(1 << 10);
    path("frame submit: made", || {
        out.clear();
        Ok(encode(&submit, 0, &mut out)?)
    })?;
    let head = out.split_off(PREFIX_LEN);
    path("frame submit: read", || Ok(decode::<ClientMessage>(&head)?))?;
    let mut stream = Vec::new();
    encode(&submit, 10_000, &mut stream)?;
    stream.resize(stream.len() + 10_000, 7);
    path("frame submit: with 10 KB, off a stream", || {
        runtime.block_on(async {
            let mut reader = FrameReader::new(stream.as_slice());
            let message = reader.next::<ClientMessage>().await?;
            Ok((message, reader.body().await?))
        })
    })?;
    path("frame accepted: made", || {
        out.clear();
        Ok(encode(&accepted, 0, &mut out)?)
    })?;
    path("frame result: made", || {
        out.clear();
        Ok(encode(&result, 0, &mut out)?)
    })?;
    let head = out.split_off(PREFIX_LEN);
    path("frame result: read", || Ok(decode::<ServerMessage>(&head)?))
}

fn queue(record: &JobRecord) -> anyhow::Result<()> {
    let accepted = JobRecord {
        result: None,
        ..record.clone()
    };
    let task = Task {
        job: record.job.clone(),
        run: 0,
        accepted_at: record.job.submitted_at,
        image_url: "file:///var/lib/imgsys/images/c4/c4c4c4c4".into(),
        checksum: Some(Checksum::of(b"abc")),
    };
    path("event accepted: made", || Ok(events::encode(&accepted)?))?;
    path("task: message made", || Ok(measure::message(&task)?))?;
    let message = measure::message(&task)?;
    let take = || measure::take(&message).context("the message is not read");
    path("task: message read", take)?;
    let taken = take()?;
    path("task: end made", || {
        let result = record.result.clone().context("no result")?;
        Ok(measure::end(
            &taken,
            "f3a6b0c2-5a0e-4c8e-9d0c-3a1f5b7c9d11",
            result,
        ))
    })?;
    for record in [&accepted, record] {
        let [(_, kind), (_, data)] = events::encode(record)?;
        path(&format!("event {kind}: read"), || {
            Ok(events::decode(kind.as_bytes(), data.as_bytes())?)
        })?;
    }
    Ok(())
}

/// The smallest image there is, whose header alone is looked into.
fn analysis() -> anyhow::Result<()> {
    const GIF: &[u8] =
        b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";
    let options = Options {
        limits: Limits {
            max_pixels: 50_000_000,
            max_side: 16_384,
            max_decode_memory: 512 << 20,
        },
        depth: Depth::Header,
        keep_gps: false,
    };
    let simulated = Simulated::new(Duration::ZERO);
    let digest = Digest::from_bytes([0xc4; 32]);
    path("analysis: header, simulated", || {
        Ok(analyze(GIF, digest, &options, &simulated)?)
    })
}

/// One job after the other, each with a commit of its own: the most that the spool's part can cost.
fn store(record: &JobRecord, runtime: &Runtime) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("making a folder for the store")?;
    let store = Store::open(StoreOptions {
        dir: folder.path().join("spool"),
        images_dir: None,
        durability: Durability::None,
        direct_io: true,
        min_free: 0,
    })?;
    let mut number = 0_u64;
    let mut ids = Vec::new();
    path("store: image of 64 B accepted", || {
        number += 1;
        let mut image = [7; 64];
        image[..8].copy_from_slice(&number.to_le_bytes());
        let id = job_id(number);
        ids.push(id);
        let job = Job {
            id,
            sha256: Digest::from_bytes(Sha256::digest(image).into()),
            size: 64,
            ..record.job.clone()
        };
        let image = Image::Bytes(Bytes::copy_from_slice(&image));
        Ok(runtime.block_on(store.accept(job, image))?)
    })?;
    let mut each = ids.iter();
    path("store: result kept", || {
        let id = *each.next().context("no job is left")?;
        let result = record.result.clone().context("no result")?;
        let kept = runtime.block_on(store.set_result(id, result))?;
        ensure!(kept.is_some(), "the job is not in the spool");
        Ok(())
    })?;
    let mut each = ids.iter();
    path("store: job read", || {
        store
            .get(*each.next().context("no job is left")?)?
            .context("it is gone")
    })?;
    let mut each = ids.iter();
    path("store: job removed", || {
        store.remove(vec![*each.next().context("no job is left")?]);
        Ok(runtime.block_on(store.flush())?)
    })?;
    runtime.block_on(store.close());
    Ok(())
}

/// An id of version 7, as clients make them: later ones are greater.
fn job_id(number: u64) -> JobId {
    let mut bytes = [0x5a; 16];
    bytes[..6].copy_from_slice(&(1_764_000_000_123 + number).to_be_bytes()[2..]);
    (bytes[6], bytes[8]) = (0x7a, 0x9a);
    JobId::from_bytes(bytes)
}
