//! The check of a head before it is deserialised.
//!
//! Walks the items of RFC 8949 without allocating what they announce, so that a head that lies
//! about a length or nests without end costs nothing.

/// What is wrong with a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// An item ends after the head does, or is none of CBOR's.
    #[error("it is cut short or not CBOR")]
    Syntax,
    /// A string, array or map without a length of its own.
    #[error("it has an item of indefinite length")]
    Indefinite,
    /// Too many items within items.
    #[error("its items are nested too deeply")]
    Depth,
    /// Something comes after the item.
    #[error("there are bytes behind it")]
    Trailing,
    /// The item is no map.
    #[error("it is no map")]
    NoMap,
}

/// Checks that `head` is one map, complete and alone, with at most `max_depth` items within items.
pub fn check(head: &[u8], max_depth: usize) -> Result<(), Malformed> {
    // Major type 5 is a map.
    if head.first().is_none_or(|initial| initial >> 5 != 5) {
        return Err(if head.is_empty() {
            Malformed::Syntax
        } else {
            Malformed::NoMap
        });
    }
    let mut rest = head;
    // How many items are still to come on this level, and on those around it.
    let mut left = 1_usize;
    let mut around: Vec<usize> = Vec::with_capacity(max_depth);
    loop {
        while left == 0 {
            let Some(outer) = around.pop() else {
                return if rest.is_empty() {
                    Ok(())
                } else {
                    Err(Malformed::Trailing)
                };
            };
            left = outer;
        }
        left -= 1;
        let inner;
        (inner, rest) = item(rest)?;
        // Every item takes a byte at least: a longer announcement is a lie.
        if inner > rest.len() {
            return Err(Malformed::Syntax);
        }
        if inner > 0 {
            if around.len() >= max_depth {
                return Err(Malformed::Depth);
            }
            around.push(left);
            left = inner;
        }
    }
}

/// How many items there are in the first one, and the bytes behind its own.
fn item(bytes: &[u8]) -> Result<(usize, &[u8]), Malformed> {
    let (&initial, rest) = bytes.split_first().ok_or(Malformed::Syntax)?;
    let (major, minor) = (initial >> 5, initial & 31);
    let (argument, rest) = match minor {
        0..=23 => (usize::from(minor), rest),
        24..=27 => {
            let (argument, rest) = rest
                .split_at_checked(1 << (minor - 24))
                .ok_or(Malformed::Syntax)?;
            let whole = |sum: u64, &byte| sum << 8 | u64::from(byte);
            let argument = argument.iter().fold(0, whole);
            (usize::try_from(argument).unwrap_or(usize::MAX), rest)
        }
        // Strings, arrays and maps may end by a break.
        31 if matches!(major, 2..=5) => return Err(Malformed::Indefinite),
        _ => return Err(Malformed::Syntax),
    };
    match major {
        // Bytes and text.
        2 | 3 => match rest.get(argument..) {
            Some(rest) => Ok((0, rest)),
            None => Err(Malformed::Syntax),
        },
        // An array and a map.
        4 => Ok((argument, rest)),
        5 => Ok((argument.checked_mul(2).ok_or(Malformed::Syntax)?, rest)),
        // A tag, which stands before an item.
        6 => Ok((1, rest)),
        // Numbers and simple values.
        _ => Ok((0, rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ciborium_ll::{Decoder, Header};
    use proptest::prelude::*;

    /// The same, by the headers that ciborium reads.
    fn check_by_headers(head: &[u8], max_depth: usize) -> Result<(), Malformed> {
        if head.first().is_none_or(|initial| initial >> 5 != 5) {
            return Err(if head.is_empty() {
                Malformed::Syntax
            } else {
                Malformed::NoMap
            });
        }
        let mut rest = head;
        // How many items are still to come on each level.
        let mut levels: Vec<usize> = Vec::with_capacity(max_depth + 1);
        levels.push(1);
        while let Some(left) = levels.last_mut() {
            if *left == 0 {
                levels.pop();
                continue;
            }
            *left -= 1;
            let mut decoder = Decoder::from(rest);
            let header = decoder.pull().map_err(|_| Malformed::Syntax)?;
            rest = rest.get(decoder.offset()..).ok_or(Malformed::Syntax)?;
            let inner = match header {
                Header::Positive(_)
                | Header::Negative(_)
                | Header::Float(_)
                | Header::Simple(_) => 0,
                Header::Bytes(Some(len)) | Header::Text(Some(len)) => {
                    rest = rest.get(len..).ok_or(Malformed::Syntax)?;
                    0
                }
                Header::Tag(_) => 1,
                Header::Array(Some(len)) => len,
                Header::Map(Some(len)) => len.checked_mul(2).ok_or(Malformed::Syntax)?,
                Header::Bytes(None)
                | Header::Text(None)
                | Header::Array(None)
                | Header::Map(None) => {
                    return Err(Malformed::Indefinite);
                }
                Header::Break => return Err(Malformed::Syntax),
            };
            // Every item takes a byte at least: a longer announcement is a lie.
            if inner > rest.len() {
                return Err(Malformed::Syntax);
            }
            if inner > 0 {
                if levels.len() > max_depth {
                    return Err(Malformed::Depth);
                }
                levels.push(inner);
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }

    /// Bytes that are often CBOR.
    fn head() -> impl Strategy<Value = Vec<u8>> {
        let byte = prop_oneof![
            4 => prop_oneof![Just(0xa1), Just(0xa2), Just(0x81), Just(0x82), Just(0x61), Just(0xf6)],
            1 => any::<u8>(),
        ];
        let bytes = proptest::collection::vec(byte, 0..64);
        bytes.prop_map(|mut bytes| {
            bytes.insert(0, 0xa1);
            bytes
        })
    }

    proptest! {
        #[test]
        fn headers_say_the_same(head in head(), depth in 1..20_usize) {
            prop_assert_eq!(check(&head, depth), check_by_headers(&head, depth));
        }
    }

    #[test]
    fn headers_say_the_same_of_each_beginning() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                let bytes = [0xa1, 0x60, first, second, 0, 0, 0, 0, 0, 0, 0, 0];
                for len in 2..=bytes.len() {
                    let head = &bytes[..len];
                    assert_eq!(check(head, 16), check_by_headers(head, 16), "{head:02x?}");
                }
            }
        }
    }

    fn checked(hex_text: &str) -> Result<(), Malformed> {
        check(&hex::decode(hex_text).unwrap(), 16)
    }

    #[test]
    fn whole_maps_pass() {
        assert_eq!(checked("a0"), Ok(()));
        assert_eq!(checked("a1616182f6f5"), Ok(()));
        assert_eq!(checked("a16161c000"), Ok(()));
    }

    #[test]
    fn lies_and_leftovers_do_not() {
        for (head, error) in [
            ("", Malformed::Syntax),
            ("f6", Malformed::NoMap),
            ("6161", Malformed::NoMap),
            ("a000", Malformed::Trailing),
            ("a16161", Malformed::Syntax),
            ("a161", Malformed::Syntax),
            ("bf6161f6ff", Malformed::Indefinite),
            ("a161617f6161ff", Malformed::Indefinite),
            ("a161615f4161ff", Malformed::Indefinite),
            ("a161619fff", Malformed::Indefinite),
            ("a161619bffffffffffffffff", Malformed::Syntax),
            ("a16161bbffffffffffffffff", Malformed::Syntax),
            ("a161615bffffffffffffffff", Malformed::Syntax),
            ("a161619a00010000", Malformed::Syntax),
            ("a16161ff", Malformed::Syntax),
            ("a16161fc", Malformed::Syntax),
        ] {
            assert_eq!(checked(head), Err(error), "{head}");
        }
    }

    #[test]
    fn depth_ends_at_sixteen() {
        let nested = |arrays: usize| format!("a16161{}f6", "81".repeat(arrays));
        assert_eq!(checked(&nested(15)), Ok(()));
        assert_eq!(checked(&nested(16)), Err(Malformed::Depth));
        assert_eq!(checked(&nested(60_000)), Err(Malformed::Depth));
        let tags = format!("a16161{}f6", "c1".repeat(16));
        assert_eq!(checked(&tags), Err(Malformed::Depth));
    }
}
