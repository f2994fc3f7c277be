//! NAL units after their lengths.

/// Length of a length, in bytes.
pub const LENGTH: usize = 4;
/// First size of a buffer in bytes. It grows by factors of two.
const INITIAL_BYTES: usize = 1 << 10;

/// NAL units, each after its length in four bytes. The last one may be unfinished.
#[derive(Debug, Default)]
pub struct NalBuffer {
    data: Vec<u8>,
    /// Where the unfinished NAL unit begins, after the room for its length.
    open: Option<usize>,
}

impl NalBuffer {
    pub fn len(&self) -> usize {
        self.data.len()
    }

    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }

    /// Begins a NAL unit. It drops an unfinished one.
    pub fn begin(&mut self) {
        self.abandon();
        self.reserve(LENGTH);
        self.data.extend_from_slice(&[0; LENGTH]);
        self.open = Some(self.data.len());
    }

    /// Adds bytes to the unfinished NAL unit.
    pub fn append(&mut self, bytes: &[u8]) {
        if self.open.is_some() {
            self.reserve(bytes.len());
            self.data.extend_from_slice(bytes);
        }
    }

    /// Returns the unfinished NAL unit.
    pub fn open_nal(&self) -> &[u8] {
        self.open.and_then(|begin| self.data.get(begin..)).unwrap_or_default()
    }

    /// Ends the unfinished NAL unit.
    pub fn end(&mut self) {
        let Some(begin) = self.open.take() else {
            return;
        };
        let length = u32::try_from(self.data.len().saturating_sub(begin)).unwrap_or_default();
        let room = self.data.get_mut(begin.saturating_sub(LENGTH)..).and_then(<[u8]>::first_chunk_mut);
        if let Some(room) = room {
            *room = length.to_be_bytes();
        }
    }

    /// Drops the unfinished NAL unit.
    pub fn abandon(&mut self) {
        if let Some(begin) = self.open.take() {
            self.data.truncate(begin.saturating_sub(LENGTH));
        }
    }

    /// Moves the NAL units of another buffer to the end. Both have no unfinished one.
    pub fn append_all(&mut self, other: Self) {
        if self.data.is_empty() {
            self.data = other.data;
        } else {
            self.reserve(other.data.len());
            self.data.extend_from_slice(&other.data);
        }
    }

    /// Adds a NAL unit.
    pub fn add(&mut self, nal: &[u8]) {
        self.begin();
        self.append(nal);
        self.end();
    }

    /// Inserts the NAL units of another buffer after the first one, or before it.
    pub fn insert(&mut self, other: Self, is_after_first: bool) {
        let first = self.nals().next().filter(|_| is_after_first);
        let position = first.map_or(0, |nal| nal.len().saturating_add(LENGTH)).min(self.data.len());
        self.data.splice(position..position, other.data);
    }

    /// Returns the finished NAL units.
    pub fn nals(&self) -> Nals<'_> {
        let end = self.open.map_or(self.data.len(), |begin| begin.saturating_sub(LENGTH));
        Nals(self.data.get(..end).unwrap_or_default())
    }

    pub fn into_data(mut self) -> Vec<u8> {
        self.abandon();
        self.data.shrink_to_fit();
        self.data
    }

    /// Makes room. The room at most doubles, so a unit of 16 MiB takes no 32 MiB if it grows in small steps.
    fn reserve(&mut self, len: usize) {
        let needed = self.data.len().saturating_add(len);
        if needed > self.data.capacity() {
            let room = self.data.capacity().saturating_mul(2).max(INITIAL_BYTES).max(needed);
            self.data.reserve_exact(room.saturating_sub(self.data.len()));
        }
    }
}

/// Iterator over NAL units after their lengths.
#[derive(Clone, Debug)]
pub struct Nals<'a>(&'a [u8]);

impl<'a> Iterator for Nals<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (nal, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        self.0 = rest;
        Some(nal)
    }
}
