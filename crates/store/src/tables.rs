//! The tables of the spool's database, their keys and values.
//!
//! | table | key | value |
//! |---|---|---|
//! | `known` | digest, owner | the image's size in bytes |
//! | `spent` | owner | day (UTC, since 1970), and the bytes of images that came on it |
//! | `meta` | `server` | the server's id |
//! | `spool` | `salt` | what the checksums of the log begin with |
//! | `spool` | `first` | the oldest segment of the log that is needed |
//! | `spool` | `sequence` | the last batch of the log that `known` and `spent` are up to |
//!
//! The digest comes first in `known`, so that all owners of an image lie together. Before there was
//! a log, `spool` was a table of records (see `open::import`): a program of that time finds a table
//! of another type under its name, and goes no further.

use crate::{StoreError, error::database};
use imgsys_types::{Digest, Owner, Timestamp};
use redb::{ReadableTable, TableDefinition};

pub(crate) const KNOWN: TableDefinition<'_, &[u8], u64> = TableDefinition::new("known");
pub(crate) const SPENT: TableDefinition<'_, &str, (i64, u64)> = TableDefinition::new("spent");
pub(crate) const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
pub(crate) const SERVER: &str = "server";
pub(crate) const LOG: TableDefinition<'_, &str, u64> = TableDefinition::new("spool");
pub(crate) const SALT: &str = "salt";
pub(crate) const FIRST: &str = "first";
pub(crate) const SEQUENCE: &str = "sequence";

/// The key in `known` of an owner's image.
pub(crate) fn known_key(digest: &Digest, owner: &Owner) -> Vec<u8> {
    [digest.as_bytes(), owner.as_str().as_bytes()].concat()
}

/// The keys in `known` of an image's owners: from the first to before the second.
pub(crate) fn known_keys(digest: &Digest) -> (Vec<u8>, Vec<u8>) {
    let first = digest.as_bytes().to_vec();
    // Owners are ASCII.
    let end = [first.as_slice(), &[0x80]].concat();
    (first, end)
}

/// The size of an image, as sent by this owner, and as sent by anybody.
pub(crate) fn known(
    table: &impl ReadableTable<&'static [u8], u64>,
    digest: &Digest,
    owner: &Owner,
) -> Result<(Option<u64>, Option<u64>), StoreError> {
    let doing = "reading the index of images";
    let (first, end) = known_keys(digest);
    let range = table.range(first.as_slice()..end.as_slice());
    let entry = range.map_err(database(doing))?.next().transpose();
    let Some((found, size)) = entry.map_err(database(doing))? else {
        return Ok((None, None));
    };
    let anyone = Some(size.value());
    let key = known_key(digest, owner);
    if found.value() == key {
        return Ok((anyone, anyone));
    }
    let own = table.get(key.as_slice()).map_err(database(doing))?;
    Ok((own.map(|size| size.value()), anyone))
}

/// The day of a time (UTC), in days since 1970.
pub(crate) const fn day_of(time: Timestamp) -> i64 {
    time.as_micros().div_euclid(86_400_000_000)
}
