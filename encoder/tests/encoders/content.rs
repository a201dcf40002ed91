//! Pictures that are the same on every run.

use lenscast_media::{Picture, Resolution};

/// A textured background that pans, with a bright box on it that moves faster.
pub(crate) fn pattern(resolution: Resolution, frame: u32) -> Picture {
    let (width, height) = (resolution.width() as usize, resolution.height() as usize);
    let mut picture = Picture::black(resolution);
    let frame = frame as usize;
    let planes = picture.planes_mut();
    for (row, line) in planes.y.chunks_exact_mut(width).enumerate() {
        for (column, luma) in line.iter_mut().enumerate() {
            *luma = texture(column + frame * 2, row + frame);
        }
    }
    let side = width.min(height) / 4;
    let left = triangle(frame * 5, width - side);
    let top = triangle(frame * 3, height - side);
    for line in planes.y.chunks_exact_mut(width).skip(top).take(side) {
        line[left..left + side].fill(200);
    }
    for (plane, slope) in [(planes.u, 3), (planes.v, 5)] {
        for (row, line) in plane.chunks_exact_mut(width / 2).enumerate() {
            for (column, chroma) in line.iter_mut().enumerate() {
                *chroma = 96 + (triangle((column + frame) * slope / 8 + row / 4, 64) as u8);
            }
        }
    }
    picture
}

/// Smooth shading with edges every 32 pixels, and fine detail of a few levels.
fn texture(x: usize, y: usize) -> u8 {
    let shading = triangle(x / 2 + y / 3, 100);
    let edge = if (x / 32 + y / 32).is_multiple_of(2) { 20 } else { 0 };
    let detail = (x.wrapping_mul(2_654_435_761) ^ y.wrapping_mul(40_503) ^ (x * y)) >> 7 & 7;
    (40 + shading + edge + detail) as u8
}

/// Runs up and down between 0 and `top`.
fn triangle(position: usize, top: usize) -> usize {
    if top == 0 {
        return 0;
    }
    let phase = position % (2 * top);
    if phase < top { phase } else { 2 * top - phase }
}

/// The pattern through a sensor that has too little light: every sample is off by up to `amplitude`, mostly by less.
pub(crate) fn grainy(resolution: Resolution, frame: u32, amplitude: u8) -> Picture {
    let mut picture = pattern(resolution, frame);
    let noise = noise(resolution, u64::from(frame) + 1);
    for (sample, &noise) in picture.data_mut().iter_mut().zip(noise.data()) {
        // The sum of two even distributions, from −15 to 15.
        let grain = i16::from(noise & 15) + i16::from(noise >> 4) - 15;
        let sum = i16::from(*sample) + grain * i16::from(amplitude) / 15;
        *sample = sum.clamp(0, 255) as u8;
    }
    picture
}

/// Pictures to go through there and back, so that no step is a cut.
pub(crate) struct Reel(Vec<Picture>);

impl Reel {
    pub(crate) fn new(frames: u32, picture: impl Fn(u32) -> Picture) -> Self {
        assert!(frames >= 2);
        Self((0..frames).map(picture).collect())
    }

    pub(crate) fn picture(&self, frame: u32) -> &Picture {
        &self.0[triangle(frame as usize, self.0.len() - 1)]
    }
}

/// White noise on every plane: the hardest picture there is.
pub(crate) fn noise(resolution: Resolution, seed: u64) -> Picture {
    let mut picture = Picture::black(resolution);
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    for sample in picture.data_mut() {
        // xorshift64, G. Marsaglia, "Xorshift RNGs", 2003.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        *sample = (state >> 32) as u8;
    }
    picture
}

/// Peak signal-to-noise ratio over all planes in dB; infinite if the pictures are equal.
pub(crate) fn psnr(left: &Picture, right: &Picture) -> f64 {
    assert_eq!(left.resolution(), right.resolution());
    let samples = left.data().iter().zip(right.data());
    let squares: u64 = samples.map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2)).sum();
    10.0 * (255.0 * 255.0 * left.data().len() as f64 / squares as f64).log10()
}
