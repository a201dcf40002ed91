//! From full range (JPEG: luma and chroma 0–255) to limited range (luma 16–235, chroma 16–240), ITU-R BT.601-7 §2.5.3
//! and JFIF 1.02 page 3.

/// Limited-range luma for each full-range luma.
pub(crate) const LUMA: [u8; 256] = {
    let mut table = [0; 256];
    let mut full = 0;
    while full < 256 {
        table[full] = (16 + (full * 219 + 127) / 255) as u8;
        full += 1;
    }
    table
};

/// Limited-range chroma for each full-range chroma.
pub(crate) const CHROMA: [u8; 256] = {
    let mut table = [0; 256];
    let mut full: i32 = 0;
    while full < 256 {
        let scaled = (full - 128) * 224;
        // Rounds half away from zero, so that opposite colours stay opposite.
        let rounded = if scaled < 0 { (scaled - 127) / 255 } else { (scaled + 127) / 255 };
        table[full as usize] = (128 + rounded) as u8;
        full += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_and_the_middle_are_where_the_standard_puts_them() {
        assert_eq!((LUMA[0], LUMA[255]), (16, 235));
        assert_eq!((CHROMA[0], CHROMA[128], CHROMA[255]), (16, 128, 240));
        assert!(LUMA.is_sorted() && CHROMA.is_sorted());
    }
}
