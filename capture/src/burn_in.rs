//! A frame's number and capture time as black and white blocks in the picture itself.
//!
//! Whoever sees the picture, after any encoder, router and decoder, can say which frame it is and how old: that is how
//! loss, order and end-to-end latency are measured. `docs/burn-in.md` is the layout's specification, for readers in other
//! languages too.
//!
//! **Invariants.** What is written is read back from any picture with room for it; a block that is neither clearly black
//! nor clearly white, or a wrong checksum, makes the reader refuse the whole code.
//!
//! What it does not do: error correction. A code that cannot be read counts as unread.

use std::time::Duration;

use lenscast_media::{Picture, Resolution};

/// What is burnt into a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BurnIn {
    /// The low 32 bits of [`Frame::number`](lenscast_media::Frame::number).
    pub number: u32,
    /// When the frame was captured: time since 1970-01-01 00:00 UTC by this machine's clock, in whole milliseconds.
    pub captured_unix: Duration,
}

/// The code is `COLUMNS` blocks wide and [`ROWS`] high: 32 + 48 + 16 bits.
const COLUMNS: u32 = 16;
const ROWS: u32 = 6;
/// The smallest block: at half that side, subsampled chroma and scaling would mix neighbours.
const MIN_SIDE: u32 = 4;
/// Luma of a 0 and of a 1 in limited range.
const BLACK: u8 = 16;
const WHITE: u8 = 235;
/// Half way between [`BLACK`] and [`WHITE`].
const THRESHOLD: u32 = 126;
/// How far a block's mean must lie from [`THRESHOLD`] to count as read.
const MARGIN: u32 = 24;
/// Bits of the capture time in milliseconds: enough until the year 10889.
const MILLIS_MASK: u64 = (1 << 48) - 1;

impl BurnIn {
    /// The side of one block in a picture of this size, in pixels: a multiple of 4. `None` if there is no room.
    ///
    /// An eightieth of the width, at least 8 where the picture has room for that, and never more than fits.
    #[must_use]
    pub fn block_side(width: u32, height: u32) -> Option<u32> {
        let wanted = (width / 320 * 4).max(8);
        let room = (width / COLUMNS).min(height / ROWS);
        let side = wanted.min(room) / MIN_SIDE * MIN_SIDE;
        (side >= MIN_SIDE).then_some(side)
    }

    /// Width and height of the whole code in a picture of this size, in pixels. `None` if there is no room.
    #[must_use]
    pub fn size(resolution: Resolution) -> Option<(u32, u32)> {
        let side = Self::block_side(resolution.width(), resolution.height())?;
        Some((COLUMNS * side, ROWS * side))
    }

    /// Writes the code into the top left of `picture`, luma and chroma. Does nothing if there is no room for it.
    pub fn write(&self, picture: &mut Picture) {
        let (width, height) = (picture.resolution().width(), picture.resolution().height());
        let Some(side) = Self::block_side(width, height) else { return };
        let (bits, side, width) = (self.bits(), side as usize, width as usize);
        let planes = picture.planes_mut();
        let columns = COLUMNS as usize;
        for (row, luma) in planes.y.chunks_mut(width * side).take(ROWS as usize).enumerate() {
            let (first, others) = luma.split_at_mut(width);
            for (column, block) in first.chunks_exact_mut(side).take(columns).enumerate() {
                let bit = COLUMNS as usize * row + column;
                block.fill(if bits >> (95 - bit) & 1 == 1 { WHITE } else { BLACK });
            }
            for other in others.chunks_exact_mut(width) {
                other[..columns * side].copy_from_slice(&first[..columns * side]);
            }
        }
        for plane in [planes.u, planes.v] {
            for row in plane.chunks_exact_mut(width / 2).take(ROWS as usize * side / 2) {
                row[..columns * side / 2].fill(128);
            }
        }
    }

    /// Reads the code from a picture in limited range. `None` if there is none that is whole.
    #[must_use]
    pub fn read(picture: &Picture) -> Option<Self> {
        let resolution = picture.resolution();
        Self::read_luma(picture.planes().y, resolution.width() as usize, resolution.width(), resolution.height())
    }

    /// Reads the code from a luma plane in limited range whose rows begin `stride` bytes apart.
    ///
    /// `None` if there is no code that is whole, or if `luma` is shorter than `height` rows.
    #[must_use]
    pub fn read_luma(luma: &[u8], stride: usize, width: u32, height: u32) -> Option<Self> {
        let side = Self::block_side(width, height)?;
        let edge = side / 4;
        let samples = (side - 2 * edge) * (side - 2 * edge);
        let mut bits: u128 = 0;
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                let mut sum = 0;
                for y in row * side + edge..(row + 1) * side - edge {
                    let start = stride.checked_mul(y as usize)?.checked_add((column * side + edge) as usize)?;
                    let line = luma.get(start..start.checked_add((side - 2 * edge) as usize)?)?;
                    sum += line.iter().map(|&luma| u32::from(luma)).sum::<u32>();
                }
                let mean = sum / samples;
                if mean.abs_diff(THRESHOLD) < MARGIN {
                    return None;
                }
                bits = bits << 1 | u128::from(mean > THRESHOLD);
            }
        }
        Self::from_bits(bits)
    }

    fn bits(&self) -> u128 {
        let millis = u64::try_from(self.captured_unix.as_millis()).unwrap_or(u64::MAX) & MILLIS_MASK;
        let payload = u128::from(self.number) << 48 | u128::from(millis);
        payload << 16 | u128::from(crc16(payload))
    }

    fn from_bits(bits: u128) -> Option<Self> {
        let payload = bits >> 16;
        if u128::from(crc16(payload)) != bits & 0xFFFF {
            return None;
        }
        let number = u32::try_from(payload >> 48).expect("80 bits less 48 are 32");
        Some(Self { number, captured_unix: Duration::from_millis(payload as u64 & MILLIS_MASK) })
    }
}

/// CRC-16/IBM-3740 (polynomial 0x1021, initially 0xFFFF, nothing reflected) over the ten bytes of `payload`, high first.
fn crc16(payload: u128) -> u16 {
    let mut crc: u16 = 0xFFFF;
    for byte in &payload.to_be_bytes()[6..] {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 != 0 { crc << 1 ^ 0x1021 } else { crc << 1 };
        }
    }
    crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolutions() -> impl Strategy<Value = Resolution> {
        (32_u32..=400, 32_u32..=300).prop_map(|(w, h)| Resolution::new(w * 2, h * 2).unwrap())
    }

    fn burn_ins() -> impl Strategy<Value = BurnIn> {
        (any::<u32>(), 0..=MILLIS_MASK)
            .prop_map(|(number, millis)| BurnIn { number, captured_unix: Duration::from_millis(millis) })
    }

    /// Each pixel becomes the mean of itself and its eight neighbours.
    fn blur(picture: &mut Picture) {
        let (width, height) = (picture.resolution().width() as usize, picture.resolution().height() as usize);
        let before = picture.planes().y.to_vec();
        for (at, luma) in picture.planes_mut().y.iter_mut().enumerate() {
            let (x, y) = (at % width, at / width);
            let (mut sum, mut count) = (0_u32, 0);
            for y in y.saturating_sub(1)..(y + 2).min(height) {
                for x in x.saturating_sub(1)..(x + 2).min(width) {
                    sum += u32::from(before[y * width + x]);
                    count += 1;
                }
            }
            *luma = (sum / count) as u8;
        }
    }

    /// Adds −`amplitude` to `amplitude` to each pixel of the luma plane.
    fn noise(picture: &mut Picture, amplitude: i32, mut seed: u64) {
        for luma in picture.planes_mut().y {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let offset = (seed >> 33) as i32 % (2 * amplitude + 1) - amplitude;
            *luma = (i32::from(*luma) + offset).clamp(0, 255) as u8;
        }
    }

    #[test]
    fn the_checksum_is_the_published_one() {
        // Expected: what Python's `binascii.crc_hqx(b"0123456789", 0xFFFF)` computes.
        let payload = b"0123456789".iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        assert_eq!(crc16(payload), 0x7D61);
    }

    #[test]
    fn block_sides_follow_the_specification() {
        for (width, height, side) in [
            (64, 64, Some(4)),
            (64, 24, Some(4)),
            (64, 22, None),
            (62, 64, None),
            (126, 96, Some(4)),
            (128, 96, Some(8)),
            (320, 240, Some(8)),
            (640, 480, Some(8)),
            (960, 540, Some(12)),
            (1280, 720, Some(16)),
            (1920, 1080, Some(24)),
            (4096, 64, Some(8)),
            (4096, 4096, Some(48)),
        ] {
            assert_eq!(BurnIn::block_side(width, height), side, "{width}x{height}");
        }
    }

    #[test]
    fn plain_pictures_hold_no_code() {
        let resolution = Resolution::new(640, 480).unwrap();
        let mut picture = Picture::black(resolution);
        for luma in [0, 16, 126, 235, 255] {
            picture.planes_mut().y.fill(luma);
            assert_eq!(BurnIn::read(&picture), None, "luma {luma}");
        }
    }

    #[test]
    fn a_plane_that_is_too_short_holds_no_code() {
        let burn_in = BurnIn { number: 1, captured_unix: Duration::from_millis(1) };
        let mut picture = Picture::black(Resolution::new(128, 64).unwrap());
        burn_in.write(&mut picture);
        let luma = picture.planes().y;
        assert_eq!(BurnIn::read_luma(luma, 128, 128, 64), Some(burn_in));
        assert_eq!(BurnIn::read_luma(&luma[..128 * 40], 128, 128, 64), None);
        assert_eq!(BurnIn::read_luma(luma, usize::MAX, 128, 64), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_is_written_is_read(resolution in resolutions(), burn_in in burn_ins(), background in any::<u8>()) {
            let mut picture = Picture::black(resolution);
            picture.data_mut().fill(background);
            burn_in.write(&mut picture);
            prop_assert_eq!(BurnIn::read(&picture), Some(burn_in));
            let (width, height) = BurnIn::size(resolution).unwrap();
            let outside = picture.planes().y.iter().enumerate().filter(|(at, _)| {
                let (x, y) = (*at as u32 % resolution.width(), *at as u32 / resolution.width());
                x >= width || y >= height
            });
            prop_assert!(outside.into_iter().all(|(_, luma)| *luma == background), "drew outside its place");
        }

        #[test]
        fn blur_and_noise_do_not_hurt(resolution in resolutions(), burn_in in burn_ins(), seed in any::<u64>()) {
            let mut picture = Picture::black(resolution);
            burn_in.write(&mut picture);
            noise(&mut picture, 40, seed);
            blur(&mut picture);
            prop_assert_eq!(BurnIn::read(&picture), Some(burn_in));
        }

        #[test]
        fn random_pictures_are_refused(resolution in resolutions(), seed in any::<u64>()) {
            let mut picture = Picture::black(resolution);
            picture.planes_mut().y.fill(126);
            noise(&mut picture, 126, seed);
            prop_assert_eq!(BurnIn::read(&picture), None);
        }

        #[test]
        fn one_wrong_block_is_noticed(burn_in in burn_ins(), row in 0_usize..6, column in 0_usize..16) {
            let mut picture = Picture::black(Resolution::new(128, 64).unwrap());
            burn_in.write(&mut picture);
            for y in 0..8 {
                let start = (row * 8 + y) * 128 + column * 8;
                for luma in &mut picture.planes_mut().y[start..start + 8] {
                    *luma = WHITE + BLACK - *luma;
                }
            }
            prop_assert_eq!(BurnIn::read(&picture), None);
        }
    }
}
