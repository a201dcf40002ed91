//! Keeps a key frame from being a monster.
//!
//! A library's first key frame is a guess: nothing is known of the picture yet. On a noisy one the guess is wrong by a
//! factor of ten, and the viewer waits a second or more for a first picture that is mostly noise. openh264 stays wrong,
//! for it keeps the quantizer of a key frame within a fixed range (`RcCalculateIdrQp` in
//! `codec/encoder/core/src/ratectl.cpp`). So a key frame over [`key_frame_limit`] is made from a picture that has had
//! its detail averaged away, and the frames that follow bring back what of it they can afford.
//!
//! **Invariant.** A picture that needs no coarsening is not copied.
//!
//! What it does not do: touch any frame that is not to be a key frame.

use std::time::Duration;

use lenscast_media::Picture;

use crate::EncoderSettings;

/// Average frames that a key frame may take up. libwebrtc allows 3 to 9 at 30 frames/s (`MaxIntraTarget` in
/// `modules/video_coding/codecs/vp8/libvpx_vp8_encoder.cc`).
const AVERAGE_FRAMES: u32 = 4;

/// Sides of the blocks that are averaged, in luma pixels, coarser and coarser.
const BLOCKS: [usize; 5] = [1, 2, 4, 8, 16];

/// How many times larger a key frame becomes by a step to finer blocks, at most.
const STEP: usize = 5;

/// Bytes that a key frame should not exceed: four average frames or what the target carries in a second, whichever is
/// less, but never less than a byte for 192 pixels, which even a coarse picture needs.
pub(crate) fn key_frame_limit(settings: &EncoderSettings) -> usize {
    let span = (settings.frame_interval() * AVERAGE_FRAMES).min(Duration::from_secs(1));
    let bytes =
        usize::try_from(settings.bitrate.bytes_in(span)).expect("a second of a legal target is 12.5 MB at most");
    bytes.max(settings.resolution.pixels() / 192)
}

/// How much detail the next key frame does without.
#[derive(Debug)]
pub(crate) struct Coarsening {
    /// Index into [`BLOCKS`].
    level: usize,
    scratch: Option<Picture>,
}

impl Coarsening {
    pub(crate) const fn none() -> Self {
        Self { level: 0, scratch: None }
    }

    /// Jumps to what should bring a key frame of `size` bytes under `limit`. Measured on white noise, blocks of 4, 8
    /// and 16 save a factor of 4 to 5, 14 to 18 and 34 to 70; on sensor noise and film somewhat less.
    pub(crate) fn choose(&mut self, size: usize, limit: usize) {
        self.level = if size <= limit + limit / 2 {
            1
        } else if size <= limit * 3 {
            2
        } else if size <= limit * 8 {
            3
        } else {
            4
        };
    }

    /// True if nothing coarser is left.
    pub(crate) const fn is_coarsest(&self) -> bool {
        self.level + 1 == BLOCKS.len()
    }

    /// Takes one step after a key frame of `size` bytes.
    pub(crate) fn adapt(&mut self, size: usize, limit: usize) {
        if size > limit {
            self.level = (self.level + 1).min(BLOCKS.len() - 1);
        } else if size < limit / STEP {
            self.level = self.level.saturating_sub(1);
        }
    }

    /// The picture with as much detail as it may have.
    pub(crate) fn apply<'a>(&'a mut self, picture: &'a Picture) -> &'a Picture {
        if self.level == 0 {
            return picture;
        }
        let scratch = self.scratch.get_or_insert_with(|| Picture::black(picture.resolution()));
        average_blocks(picture, BLOCKS[self.level], scratch);
        scratch
    }
}

/// Writes `from` into `to`, each square of `side` luma pixels replaced by its mean.
fn average_blocks(from: &Picture, side: usize, to: &mut Picture) {
    let width = from.resolution().width() as usize;
    let (from, to) = (from.planes(), to.planes_mut());
    average_plane(from.y, width, side, to.y);
    average_plane(from.u, width / 2, side / 2, to.u);
    average_plane(from.v, width / 2, side / 2, to.v);
}

fn average_plane(from: &[u8], width: usize, side: usize, to: &mut [u8]) {
    for (from, to) in from.chunks(width * side).zip(to.chunks_mut(width * side)) {
        for left in (0..width).step_by(side) {
            let columns = left..(left + side).min(width);
            let rows = from.chunks_exact(width).map(|row| &row[columns.clone()]);
            let sum: usize = rows.map(|row| row.iter().map(|&sample| usize::from(sample)).sum::<usize>()).sum();
            let samples = columns.len() * (from.len() / width);
            let mean = u8::try_from(sum / samples).expect("a mean of bytes is a byte");
            to.chunks_exact_mut(width).for_each(|row| row[columns.clone()].fill(mean));
        }
    }
}

#[cfg(test)]
mod tests {
    use lenscast_media::{Bitrate, Resolution};

    use super::*;
    use crate::{Backend, TemporalLayers};

    fn limit(framerate: f64, kbps: u64) -> usize {
        let resolution = Resolution::new(1280, 720).unwrap();
        let bitrate = Bitrate::from_kbps(kbps);
        key_frame_limit(&EncoderSettings {
            backend: Backend::H264,
            resolution,
            framerate,
            bitrate,
            temporal_layers: TemporalLayers::One,
        })
    }

    #[test]
    fn the_limit_is_four_frames_or_a_second_but_never_nothing() {
        assert_eq!(limit(30.0, 1_500), 24_999); // 4 × 6,250 B, and an interval rounded down to nanoseconds.
        assert_eq!(limit(2.0, 1_500), 187_500);
        assert_eq!(limit(30.0, 10), 4_800);
    }

    #[test]
    fn blocks_become_their_mean_also_where_the_picture_ends_within_one() {
        // 36 and 20 are no multiples of 16: the last column of blocks is 4 wide, the last row 4 high.
        let resolution = Resolution::new(36, 20).unwrap();
        let mut picture = Picture::black(resolution);
        for (index, sample) in picture.data_mut().iter_mut().enumerate() {
            *sample = (index * 7 % 251) as u8;
        }
        let mut coarse = Picture::black(resolution);
        average_blocks(&picture, 16, &mut coarse);
        let mean = |rows: std::ops::Range<usize>, columns: std::ops::Range<usize>| {
            let samples: Vec<usize> = rows
                .flat_map(|row| columns.clone().map(move |column| (row, column)))
                .map(|(row, column)| usize::from(picture.planes().y[row * 36 + column]))
                .collect();
            samples.iter().sum::<usize>() / samples.len()
        };
        let luma = coarse.planes().y;
        assert_eq!(usize::from(luma[0]), mean(0..16, 0..16));
        assert_eq!(usize::from(luma[15 * 36 + 15]), mean(0..16, 0..16));
        assert_eq!(usize::from(luma[35]), mean(0..16, 32..36));
        assert_eq!(usize::from(luma[19 * 36 + 35]), mean(16..20, 32..36));
    }

    #[test]
    fn a_flat_picture_stays_as_it_is_at_every_level() {
        let picture = Picture::black(Resolution::new(50, 34).unwrap());
        for level in 0..BLOCKS.len() {
            assert_eq!(Coarsening { level, scratch: None }.apply(&picture), &picture);
        }
    }
}
