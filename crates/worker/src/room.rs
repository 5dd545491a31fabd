//! Memory into which image files are read, used again by the next image on the same thread: memory
//! that a process has not touched before costs more than what is copied into it.

use std::collections::TryReserveError;

/// Where bytes have to lie, and what their number must be a multiple of, for a disk to put them there
/// itself: no disk asks for more than a page.
pub(crate) const ALIGN: usize = 4096;
/// The most that a thread keeps between two images.
const KEPT: usize = 4 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Room(Vec<u8>);

impl Room {
    /// Room for so many bytes and what is missing to a multiple of [`ALIGN`].
    pub(crate) fn of(&mut self, size: usize) -> Result<&mut [u8], TryReserveError> {
        let whole = size.next_multiple_of(ALIGN);
        let needed = whole.saturating_add(ALIGN);
        if self.0.len() < needed {
            self.0.clear();
            self.0.try_reserve_exact(needed)?;
            self.0.resize(needed, 0);
        }
        // A pointer into bytes can always be aligned.
        let start = self.0.as_ptr().align_offset(ALIGN).min(ALIGN);
        Ok(&mut self.0[start..start + whole])
    }

    /// Gives back what a large image has taken.
    pub(crate) fn tidy(&mut self) {
        if self.0.len() > KEPT {
            self.0 = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_aligned_and_large_enough_and_what_is_large_is_given_back() {
        let mut room = Room::default();
        for size in [0, 1, ALIGN, 100_000, 3, KEPT + 1] {
            let bytes = room.of(size).unwrap();
            assert_eq!(bytes.len(), size.next_multiple_of(ALIGN));
            assert_eq!(bytes.as_ptr() as usize % ALIGN, 0);
        }
        room.tidy();
        assert_eq!(room.0.capacity(), 0);
        room.of(10).unwrap();
        room.tidy();
        assert!(room.0.capacity() > 0);
    }
}
