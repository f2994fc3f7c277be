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

/// Reader of bits, the highest bit of a byte first. Each function returns `None` at the end of the bytes.
#[derive(Clone, Debug)]
pub struct BitReader<I> {
    bytes: I,
    current: u8,
    /// Bits of `current` that were not read, 0 to 8.
    left: u32,
}

impl<'a> BitReader<PayloadBytes<'a>> {
    /// Reads a unit. It begins with a header of `header_length` bytes, which is skipped.
    pub fn of_unit(unit: &'a [u8], header_length: usize) -> Self {
        Self::new(PayloadBytes::new(unit, header_length))
    }
}

impl<I: Iterator<Item = u8>> BitReader<I> {
    /// Reads bytes without emulation prevention.
    pub fn new(bytes: I) -> Self {
        Self { bytes, current: 0, left: 0 }
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

    /// Reads an unsigned number of at most 16 bits.
    pub fn short(&mut self, count: u8) -> Option<u16> {
        u16::try_from(self.bits(count.into())?).ok()
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

#[cfg(test)]
mod tests {
    use h264_reader::rbsp::{BitWrite, BitWriter, decode_nal};
    use proptest::prelude::*;

    use super::*;

    fn payload(unit: &[u8]) -> Vec<u8> {
        PayloadBytes::new(unit, 1).collect()
    }

    /// Inserts emulation prevention bytes (H.264, clause 7.4.1).
    fn protect(payload: &[u8]) -> Vec<u8> {
        let mut unit = vec![0x67];
        let mut zeros = 0;
        for byte in payload {
            if zeros == 2 && *byte <= 3 {
                unit.push(3);
                zeros = 0;
            }
            unit.push(*byte);
            zeros = if *byte == 0 { zeros + 1 } else { 0 };
        }
        unit
    }

    #[test]
    fn emulation_prevention_bytes_are_removed() {
        for (unit, expected) in [
            (&[9, 1, 2][..], &[1, 2][..]),
            (&[9, 0, 0, 3, 1], &[0, 0, 1]),
            (&[9, 0, 0, 3, 0, 0, 3, 3], &[0, 0, 0, 0, 3]),
            (&[9, 0, 3, 0, 0, 3], &[0, 3, 0, 0]),
            (&[0, 0, 3], &[0, 3]),
            (&[9], &[]),
            (&[], &[]),
            // Against the standard, as cameras write it.
            (&[9, 0, 0, 2, 0, 0, 0, 1], &[0, 0, 2, 0, 0, 0, 1]),
            (&[9, 0, 0, 3, 9], &[0, 0, 9]),
            (&[9, 0, 0, 0, 3, 1], &[0, 0, 0, 1]),
        ] {
            assert_eq!(payload(unit), expected, "{unit:?}");
        }
    }

    #[test]
    fn codes_have_the_values_of_table_9_2() {
        let codes = [0b1010_0110, 0b0100_0010, 0b1001_1000];
        let mut bits = BitReader::new(codes.into_iter());
        for expected in [0, 1, 2, 3, 4, 5] {
            assert_eq!(bits.unsigned(), Some(expected));
        }
        let mut bits = BitReader::new(codes.into_iter());
        for expected in [0, 1, -1, 2, -2, 3] {
            assert_eq!(bits.signed(), Some(expected));
        }
        assert_eq!(bits.bits(2), Some(0));
        assert_eq!(bits.bit(), None);
    }

    #[test]
    fn codes_have_at_most_31_zeros() {
        let code = |zeros: usize| {
            let mut bits = vec![false; zeros];
            bits.resize(2 * zeros + 1, true);
            bits.resize(bits.len().next_multiple_of(8), false);
            bits.chunks(8)
                .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit)))
                .collect::<Vec<_>>()
        };
        assert_eq!(BitReader::new(code(31).into_iter()).unsigned(), Some(u32::MAX - 1));
        assert_eq!(BitReader::new(code(31).into_iter()).signed(), Some(-i32::MAX));
        assert_eq!(BitReader::new(code(32).into_iter()).unsigned(), None);
        assert_eq!(BitReader::new(code(1000).into_iter()).unsigned(), None);
        assert_eq!(BitReader::new([0; 3].into_iter()).unsigned(), None);
    }

    proptest! {
        #[test]
        fn protected_payloads_come_back(bytes in proptest::collection::vec(0_u8..5, 0..64)) {
            prop_assert_eq!(payload(&protect(&bytes)), bytes);
        }

        #[test]
        fn units_that_h264_reader_accepts_are_read_alike(bytes in proptest::collection::vec(0_u8..5, 1..64)) {
            if let Ok(expected) = decode_nal(&bytes) {
                prop_assert_eq!(payload(&bytes), expected.into_owned());
            }
        }

        #[test]
        fn values_of_another_writer_come_back(
            values in proptest::collection::vec((any::<u16>(), any::<i16>(), 1_u32..=16), 0..32),
        ) {
            let mut bytes = Vec::new();
            let mut writer = BitWriter::new(&mut bytes);
            for (unsigned, signed, count) in &values {
                writer.write_ue((*unsigned).into()).unwrap();
                writer.write_se((*signed).into()).unwrap();
                writer.write_var(*count, u32::from(unsigned >> (16 - count))).unwrap();
            }
            writer.write_rbsp_trailing_bits().unwrap();
            let unit = protect(&bytes);
            let mut bits = BitReader::of_unit(&unit, 1);
            for (unsigned, signed, count) in values {
                prop_assert_eq!(bits.unsigned(), Some(u32::from(unsigned)));
                prop_assert_eq!(bits.signed(), Some(i32::from(signed)));
                prop_assert_eq!(bits.bits(count), Some(u32::from(unsigned >> (16 - count))));
            }
            prop_assert_eq!(bits.bit(), Some(true));
        }
    }
}
