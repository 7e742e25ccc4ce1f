/*! What a view writes: pieces that reach the reader whole or not at all. */

use std::io;

/// Pieces of output, such as a line or a box of several. Reused, so that no piece costs an allocation.
#[derive(Clone, Debug, Default)]
pub struct Frames {
    bytes: Vec<u8>,
    /// Where each piece ends.
    ends: Vec<usize>,
    room: usize,
}

impl Frames {
    /// Adds what `write` writes as one piece; writing nothing adds none.
    ///
    /// # Errors
    /// Those of `write`: then nothing is added.
    pub fn add(&mut self, write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> io::Result<()> {
        let before = self.bytes.len();
        let written = write(&mut self.bytes);
        if written.is_err() {
            self.bytes.truncate(before);
        } else if self.bytes.len() > before {
            self.ends.push(self.bytes.len());
        }
        written
    }

    /// The same if the output surely has room for it, and whether it had; else nothing is added.
    ///
    /// # Errors
    /// Those of `write`.
    pub fn add_if_room(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>) -> io::Result<()>,
    ) -> io::Result<bool> {
        let (bytes, pieces) = (self.bytes.len(), self.ends.len());
        self.add(write)?;
        let fits = self.bytes.len() <= self.room;
        if !fits {
            self.bytes.truncate(bytes);
            self.ends.truncate(pieces);
        }
        Ok(fits)
    }

    /// Says how many bytes the output surely has room for.
    pub fn set_room(&mut self, bytes: usize) {
        self.room = bytes;
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many of the first pieces have room in so many bytes: their bytes, and how many do not.
    pub fn fitting(&self, room: usize) -> (&[u8], usize) {
        if self.bytes.len() <= room {
            return (&self.bytes, 0);
        }
        let fit = self.ends.partition_point(|&end| end <= room);
        let bytes = fit.checked_sub(1).map_or(0, |last| self.ends[last]);
        (&self.bytes[..bytes], self.ends.len() - fit)
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Empties it and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::Frames;

    fn frames(pieces: &[&str]) -> Frames {
        let mut frames = Frames::default();
        for piece in pieces {
            let write = |out: &mut Vec<u8>| {
                out.extend_from_slice(piece.as_bytes());
                Ok(())
            };
            frames.add(write).unwrap();
        }
        frames
    }

    #[test]
    fn a_piece_fits_whole_or_not_at_all() {
        let frames = frames(&["one\n", "two\nlines\n", "", "three\n"]);
        assert_eq!(frames.fitting(100), (frames.bytes(), 0));
        assert_eq!(frames.fitting(14), (&b"one\ntwo\nlines\n"[..], 1));
        assert_eq!(frames.fitting(13), (&b"one\n"[..], 2));
        assert_eq!(frames.fitting(3), (&b""[..], 3));
    }

    #[test]
    fn what_fails_or_has_no_room_leaves_nothing() {
        let mut frames = frames(&["one\n"]);
        let failed = frames.add(|out| {
            out.push(b'x');
            Err(io::ErrorKind::Other.into())
        });
        assert!(failed.is_err());
        let two = |out: &mut Vec<u8>| {
            out.extend_from_slice(b"two\n");
            Ok(())
        };
        frames.set_room(7);
        assert!(!frames.add_if_room(two).unwrap());
        assert_eq!(frames.fitting(100), (&b"one\n"[..], 0));
        frames.set_room(8);
        assert!(frames.add_if_room(two).unwrap());
        assert_eq!(frames.fitting(4), (&b"one\n"[..], 1));
        frames.clear();
        assert!(frames.is_empty());
    }
}
