//! Buffers in which the pieces of large uploads gather.
//!
//! They are used again and again: memory that a process has not touched before costs more than
//! copying into it does. And they lie where the disk can read them itself, without the kernel's
//! cache in between.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How many bytes gather before they are worth a hop to a blocking thread and a write.
pub(crate) const CHUNK: usize = 512 << 10;
/// Where a buffer that is written past the kernel's cache has to begin, and what its length must be a
/// multiple of: no disk asks for more than a page.
pub(crate) const ALIGN: usize = 4096;
/// How many buffers are kept that nobody needs at the moment.
const KEPT: usize = 8;

/// [`CHUNK`] bytes, of which the first have been filled.
#[derive(Debug)]
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    filled: usize,
}

/// Buffers that wait to be used again.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Buffer>>);

impl Buffers {
    fn kept(&self) -> MutexGuard<'_, Vec<Buffer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> Buffer {
        let kept = self.kept().pop();
        kept.unwrap_or_else(Buffer::new)
    }

    /// Takes a buffer back.
    pub(crate) fn give_back(&self, mut buffer: Buffer) {
        buffer.clear();
        let mut kept = self.kept();
        if kept.len() < KEPT {
            kept.push(buffer);
        }
    }
}

impl Buffer {
    fn new() -> Self {
        // Zeroed memory is touched only where it is written to.
        let bytes = vec![0; CHUNK + ALIGN].into_boxed_slice();
        // A pointer into bytes can always be aligned.
        let start = bytes.as_ptr().align_offset(ALIGN).min(ALIGN);
        Self {
            bytes,
            start,
            filled: 0,
        }
    }

    /// What has been filled.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.filled]
    }

    /// The same, with zeros up to a length that is a multiple of [`ALIGN`].
    pub(crate) fn padded(&mut self) -> &[u8] {
        let (from, to) = (self.filled, self.filled.next_multiple_of(ALIGN));
        self.bytes[self.start + from..self.start + to].fill(0);
        &self.bytes[self.start..self.start + to]
    }

    /// What may still be filled.
    pub(crate) fn room(&mut self) -> &mut [u8] {
        let end = self.start + CHUNK;
        &mut self.bytes[self.start + self.filled..end]
    }

    /// So many bytes of the room have been filled.
    pub(crate) fn fill(&mut self, count: usize) {
        self.filled = (self.filled + count).min(CHUNK);
    }

    pub(crate) fn is_full(&self) -> bool {
        self.filled == CHUNK
    }

    pub(crate) fn clear(&mut self) {
        self.filled = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_aligned_and_filled_to_its_end() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        assert_eq!(buffer.room().len(), CHUNK);
        assert_eq!(buffer.room().as_ptr() as usize % ALIGN, 0);
        buffer.room()[..5].copy_from_slice(b"hello");
        buffer.fill(5);
        assert_eq!(buffer.filled(), b"hello");
        assert_eq!(buffer.padded().len(), ALIGN);
        assert!(!buffer.is_full());
        buffer.fill(CHUNK - 5);
        assert!(buffer.is_full() && buffer.room().is_empty());
        assert_eq!(buffer.padded().len(), CHUNK);
        buffers.give_back(buffer);
        assert_eq!(buffers.take().filled(), b"");
    }

    #[test]
    fn only_so_many_buffers_are_kept() {
        let buffers = Buffers::default();
        let taken: Vec<_> = (0..2 * KEPT).map(|_| buffers.take()).collect();
        for buffer in taken {
            buffers.give_back(buffer);
        }
        assert_eq!(buffers.kept().len(), KEPT);
    }
}
