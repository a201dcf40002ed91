/// Reads bits from the most significant on, and Exp-Golomb codes (H.264 §9.1). Ends with the bytes, never panics.
///
/// Of H.264 it passes over the bytes that keep a start code from appearing inside a NAL unit (H.264 §7.4.1.1).
#[derive(Debug, Clone)]
pub(crate) struct BitReader<'a> {
    rest: &'a [u8],
    /// Bits of `rest[0]` already read.
    consumed: u32,
    zeros: u32,
    escaped: bool,
}

impl<'a> BitReader<'a> {
    /// Of plain bytes.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, consumed: 0, zeros: 0, escaped: false }
    }

    /// Of a NAL unit, whose third byte after two zeros is no content if it is 3.
    pub(crate) fn of_nal_unit(bytes: &'a [u8]) -> Self {
        Self { escaped: true, ..Self::new(bytes) }
    }

    pub(crate) fn bit(&mut self) -> Option<bool> {
        let byte = *self.rest.first()?;
        let bit = byte >> (7 - self.consumed) & 1 == 1;
        self.consumed += 1;
        if self.consumed == 8 {
            self.consumed = 0;
            self.rest = &self.rest[1..];
            self.zeros = if byte == 0 { self.zeros + 1 } else { 0 };
            if self.escaped && self.zeros >= 2 && self.rest.first() == Some(&3) {
                self.rest = &self.rest[1..];
                self.zeros = 0;
            }
        }
        Some(bit)
    }

    /// `count` bits, at most 32.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32, "asked for {count} bits");
        let mut value = 0_u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.bit()?);
        }
        Some(value)
    }

    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.bit().map(drop))
    }

    /// ue(v): up to 31 leading zeros, so that every value fits.
    pub(crate) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.bit()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.bits(zeros)?)
    }

    /// se(v).
    pub(crate) fn signed(&mut self) -> Option<i32> {
        let code = self.unsigned()?;
        let magnitude = i32::try_from(code.div_ceil(2)).ok()?;
        Some(if code.is_multiple_of(2) { -magnitude } else { magnitude })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // H.264 table 9-2: 1, 010, 011, 00100, 00101.
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&bytes);
        assert_eq!([(); 5].map(|()| reader.unsigned()), [Some(0), Some(1), Some(2), Some(3), Some(4)]);
        let mut reader = BitReader::new(&bytes);
        assert_eq!([(); 5].map(|()| reader.signed()), [Some(0), Some(1), Some(-1), Some(2), Some(-2)]);
    }

    #[test]
    fn escape_bytes_are_no_content() {
        let mut reader = BitReader::of_nal_unit(&[0, 0, 3, 1, 0, 0, 3, 0, 0, 3]);
        assert_eq!((reader.bits(24), reader.bits(24), reader.bits(8)), (Some(1), Some(0), Some(0)));
        assert_eq!(reader.bit(), None);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..40), escaped: bool) {
            let reader = if escaped { BitReader::of_nal_unit(&bytes) } else { BitReader::new(&bytes) };
            let mut codes = reader.clone();
            prop_assert!(std::iter::from_fn(|| codes.signed()).count() <= bytes.len() * 8);
            let mut bits = reader;
            prop_assert!(std::iter::from_fn(|| bits.bit()).count() <= bytes.len() * 8);
        }
    }
}
