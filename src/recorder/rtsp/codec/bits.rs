//! Bits of a NAL unit without its emulation prevention bytes (H.264, clause 7.3.1; H.265, clause 7.3.1.1).

/// Most zeros before an Exp-Golomb code, so that its value fits in 32 bits.
const MAX_LEADING_ZEROS: u32 = 31;

/// The bytes of a unit without the 3 in each 0, 0, 3. The reader is tolerant: 0, 0, 0 to 2 and 0, 0, 3 before any byte pass,
/// because cameras write them.
#[derive(Clone, Debug)]
pub struct PayloadBytes<'a> {
    rest: std::slice::Iter<'a, u8>,
    zeros: u8,
}

impl<'a> PayloadBytes<'a> {
    /// `unit` begins with a header of `header_length` bytes, which is skipped.
    pub fn new(unit: &'a [u8], header_length: usize) -> Self {
        Self { rest: unit.get(header_length..).unwrap_or_default().iter(), zeros: 0 }
    }
}

impl Iterator for PayloadBytes<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let mut byte = *self.rest.next()?;
        if byte == 3 && self.zeros >= 2 {
            self.zeros = 0;
            byte = *self.rest.next()?;
        }
        self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        Some(byte)
    }
}

/// Reader of the bits of a unit, the highest bit of a byte first. Each function returns `None` at the end of the unit.
#[derive(Clone, Debug)]
pub struct BitReader<'a> {
    bytes: PayloadBytes<'a>,
    current: u8,
    /// Bits of `current` that were not read, 0 to 8.
    left: u32,
}

impl<'a> BitReader<'a> {
    /// `unit` begins with a header of `header_length` bytes, which is skipped.
    pub fn new(unit: &'a [u8], header_length: usize) -> Self {
        Self { bytes: PayloadBytes::new(unit, header_length), current: 0, left: 0 }
    }

    pub fn bit(&mut self) -> Option<bool> {
        if self.left == 0 {
            self.current = self.bytes.next()?;
            self.left = 8;
        }
        self.left = self.left.saturating_sub(1);
        Some(self.current >> self.left & 1 == 1)
    }

    /// Reads an unsigned number of `count` bits (`u(n)`), of which the lower 32 count.
    pub fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    /// Reads an unsigned number of at most 8 bits.
    pub fn byte(&mut self, count: u32) -> Option<u8> {
        u8::try_from(self.bits(count)?).ok()
    }

    pub fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.bit()?;
        }
        Some(())
    }

    /// Reads an unsigned Exp-Golomb code (`ue(v)`; H.264, clause 9.1; H.265, clause 9.2). Returns `None` above 2³² − 2 too.
    pub fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > MAX_LEADING_ZEROS {
                return None;
            }
        }
        let base = 1_u32.checked_shl(zeros)?.checked_sub(1)?;
        base.checked_add(self.bits(zeros)?)
    }

    /// Reads a signed Exp-Golomb code (`se(v)`).
    pub fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()?;
        let magnitude = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code % 2 == 1 { magnitude } else { magnitude.checked_neg()? })
    }
}
