//! The test picture: colour bars, a ball, a scrolling texture, a clock, the frame number, and the [`BurnIn`].
//!
//! For people it shows at a glance whether colours, motion and time are right; for encoders it moves enough to be work;
//! for tests it says in machine-readable form which frame it is and how old.
//!
//! All that stands still is drawn once. Per frame the still picture is copied (a plain copy is cheaper than to remember,
//! for each picture of the pool, what to undo in it) and what moves is drawn on top.
//!
//! What it does not do: keep time. Number, time and clock are arguments.

use std::time::Duration;

use lenscast_media::{Picture, Resolution};

use crate::BurnIn;

/// Draws the test picture at one size.
#[derive(Debug)]
pub struct Pattern {
    still: Picture,
    layout: Layout,
    /// Luma of the scrolling texture: rows of [`TEXTURE_WIDTH`].
    texture: Vec<u8>,
    /// Half the ball's width at each of its rows.
    ball: Vec<usize>,
}

#[derive(Debug, Clone, Copy)]
struct Layout {
    /// Pixels to a font pixel.
    text_scale: usize,
    /// First row of the text, below the burnt-in code.
    text_top: usize,
    /// First row of the scrolling texture; the bars end here.
    texture_top: usize,
    ball_radius: usize,
}

/// Period of the texture in pixels; a multiple of the cell.
const TEXTURE_WIDTH: usize = 256;
/// Side of one grain of the texture in pixels.
const TEXTURE_CELL: usize = 4;
/// Columns and rows of a glyph of the font.
const GLYPH: usize = 8;
/// Characters of `12:34:56.789`, the longest line.
const LINE: usize = 12;
/// Luma, U and V of the 75 % colour bars in limited-range BT.601, left to right: white, yellow, cyan, green, magenta,
/// red, blue (ITU-R BT.471-1, scaled as in BT.601 §2.5).
const BARS: [[u8; 3]; 7] =
    [[180, 128, 128], [162, 44, 142], [131, 156, 44], [112, 72, 58], [84, 184, 198], [65, 100, 212], [35, 212, 114]];
/// Orange, which no bar is.
const BALL: [u8; 3] = [160, 60, 190];
const INK: u8 = 235;

impl Pattern {
    /// The smallest side in pixels: the burnt-in code is at least 64 pixels wide, and beneath it something must move.
    pub const MIN_SIDE: u32 = 64;

    /// `None` if a side is below [`Pattern::MIN_SIDE`].
    #[must_use]
    pub fn new(resolution: Resolution) -> Option<Self> {
        if resolution.width().min(resolution.height()) < Self::MIN_SIDE {
            return None;
        }
        let layout = Layout::new(resolution);
        let rows = resolution.height() as usize - layout.texture_top;
        let radius = layout.ball_radius;
        let ball = (0..2 * radius).map(|row| half_width(radius, row)).collect();
        Some(Self { still: draw_still(resolution, &layout), layout, texture: texture(rows), ball })
    }

    /// The size it draws.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        self.still.resolution()
    }

    /// Draws frame `number`, which is `elapsed` after frame 0 and captured at `unix` after 1970-01-01 00:00 UTC.
    ///
    /// # Panics
    ///
    /// If `picture` is not of [`Pattern::resolution`].
    pub fn draw(&mut self, picture: &mut Picture, number: u64, elapsed: Duration, unix: Duration) {
        picture.data_mut().copy_from_slice(self.still.data());
        self.draw_texture(picture, elapsed);
        self.draw_ball(picture, elapsed);
        self.draw_text(picture, 0, &clock(unix));
        self.draw_text(picture, 1, &format!("#{:011}", number % 100_000_000_000));
        BurnIn { number: number as u32, captured_unix: unix }.write(picture);
    }

    /// The texture scrolls to the left by its period in two seconds.
    fn draw_texture(&self, picture: &mut Picture, elapsed: Duration) {
        let width = picture.resolution().width() as usize;
        let shift = (elapsed.as_millis() % 2_000) as usize * TEXTURE_WIDTH / 2_000;
        let rows = &mut picture.planes_mut().y[self.layout.texture_top * width..];
        for (row, texture) in rows.chunks_exact_mut(width).zip(self.texture.chunks_exact(TEXTURE_WIDTH)) {
            let (first, rest) = row.split_at_mut((TEXTURE_WIDTH - shift).min(width));
            first.copy_from_slice(&texture[shift..shift + first.len()]);
            for period in rest.chunks_mut(TEXTURE_WIDTH) {
                period.copy_from_slice(&texture[..period.len()]);
            }
        }
    }

    /// The ball goes from side to side in three seconds and up and down in two.
    fn draw_ball(&self, picture: &mut Picture, elapsed: Duration) {
        let (width, height) = (picture.resolution().width() as usize, picture.resolution().height() as usize);
        let size = 2 * self.layout.ball_radius;
        let top = self.layout.text_bottom().min(height - size);
        // Even, so that luma and chroma agree.
        let left = back_and_forth(elapsed, 3_000, width - size) & !1;
        let above = (top + back_and_forth(elapsed, 2_000, height - size - top)) & !1;
        let planes = picture.planes_mut();
        let middle = left + self.layout.ball_radius;
        for (row, &half) in self.ball.iter().enumerate() {
            let start = (above + row) * width + middle;
            planes.y[start - half..start + half].fill(BALL[0]);
            if row % 2 == 0 {
                let start = (above + row) / 2 * (width / 2) + middle / 2;
                planes.u[start - half / 2..start + half / 2].fill(BALL[1]);
                planes.v[start - half / 2..start + half / 2].fill(BALL[2]);
            }
        }
    }

    /// Draws as much of `text` as there is room for.
    fn draw_text(&self, picture: &mut Picture, line: usize, text: &str) {
        let Layout { text_scale: scale, .. } = self.layout;
        let width = picture.resolution().width() as usize;
        let top = self.layout.line_top(line);
        let luma = picture.planes_mut().y;
        if top + GLYPH * scale > luma.len() / width {
            return;
        }
        for (column, character) in text.bytes().enumerate().take(width / (GLYPH * scale)) {
            let glyph = font8x8::legacy::BASIC_LEGACY[usize::from(character & 0x7F)];
            for (glyph_row, bits) in glyph.into_iter().enumerate() {
                for glyph_column in (0..GLYPH).filter(|glyph_column| bits >> glyph_column & 1 == 1) {
                    let left = (column * GLYPH + glyph_column) * scale;
                    for row in 0..scale {
                        let start = (top + glyph_row * scale + row) * width + left;
                        luma[start..start + scale].fill(INK);
                    }
                }
            }
        }
    }
}

impl Layout {
    fn new(resolution: Resolution) -> Self {
        let (width, height) = (resolution.width() as usize, resolution.height() as usize);
        let (_, code_height) = BurnIn::size(resolution).expect("a side of 64 has room for the code");
        let text_top = code_height as usize;
        let room_for_text = height / 2 - text_top.min(height / 2);
        let text_scale = (width / 320).min(room_for_text / (2 * (GLYPH + 2))).max(1);
        let mut layout = Self { text_scale, text_top, texture_top: height * 3 / 4, ball_radius: 0 };
        layout.texture_top = layout.texture_top.max(layout.text_bottom()).min(height) & !1;
        // A multiple of 4 across, so that the half-size chroma disc is whole.
        layout.ball_radius = (width.min(height) / 20).max(2) * 2;
        layout
    }

    const fn line_height(&self) -> usize {
        (GLYPH + 2) * self.text_scale
    }

    const fn line_top(&self, line: usize) -> usize {
        self.text_top + self.text_scale + line * self.line_height()
    }

    /// The first row below the text's box; even.
    const fn text_bottom(&self) -> usize {
        (self.text_top + 2 * self.line_height()).next_multiple_of(2)
    }

    /// The width of the text's box.
    fn text_width(&self, width: usize) -> usize {
        (LINE * GLYPH * self.text_scale).next_multiple_of(2).min(width)
    }
}

/// The bars, grey under the texture, black under the text.
fn draw_still(resolution: Resolution, layout: &Layout) -> Picture {
    let mut picture = Picture::black(resolution);
    let width = resolution.width() as usize;
    let text_rows = layout.text_top..layout.text_bottom();
    let text_width = layout.text_width(width);
    let planes = picture.planes_mut();
    for (component, (plane, scale)) in [(planes.y, 1), (planes.u, 2), (planes.v, 2)].into_iter().enumerate() {
        let row_length = width / scale;
        for (row, pixels) in plane.chunks_exact_mut(row_length).enumerate().take(layout.texture_top / scale) {
            for (column, pixel) in pixels.iter_mut().enumerate() {
                *pixel = BARS[column * BARS.len() / row_length][component];
            }
            if text_rows.contains(&(row * scale)) {
                pixels[..text_width / scale].fill(if component == 0 { 16 } else { 128 });
            }
        }
    }
    picture
}

/// Grains of random grey, the same in every run.
fn texture(rows: usize) -> Vec<u8> {
    let cells_across = TEXTURE_WIDTH / TEXTURE_CELL;
    let mut seed = 1_u32;
    let cells: Vec<u8> = (0..rows.div_ceil(TEXTURE_CELL) * cells_across)
        .map(|_| {
            // Constants of the generator in Numerical Recipes.
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            80 + (seed >> 24) as u8 % 96
        })
        .collect();
    (0..rows * TEXTURE_WIDTH)
        .map(|at| {
            let (row, column) = (at / TEXTURE_WIDTH / TEXTURE_CELL, at % TEXTURE_WIDTH / TEXTURE_CELL);
            cells[row * cells_across + column]
        })
        .collect()
}

/// Half the width of a disc at `row` of its `2 * radius` rows; even, so that chroma can be half of it.
fn half_width(radius: usize, row: usize) -> usize {
    let (radius, distance) = (radius as f64, row as f64 + 0.5 - radius as f64);
    (radius * radius - distance * distance).max(0.0).sqrt() as usize & !1
}

/// A position between 0 and `range` that moves there and back once every `period` milliseconds.
fn back_and_forth(elapsed: Duration, period: u128, range: usize) -> usize {
    let phase = (elapsed.as_millis() % period) as usize * 2;
    let period = period as usize;
    range * phase.min(2 * period - phase) / period
}

/// The time of day in UTC, as `12:34:56.789`.
fn clock(unix: Duration) -> String {
    let (seconds, millis) = (unix.as_secs(), unix.subsec_millis());
    format!("{:02}:{:02}:{:02}.{millis:03}", seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn resolutions() -> impl Strategy<Value = Resolution> {
        let sides = || prop_oneof![32_u32..200, 32_u32..=2_048];
        (sides(), sides()).prop_map(|(w, h)| Resolution::new(w * 2, h * 2).unwrap())
    }

    #[test]
    fn the_clock_reads_as_a_person_writes_it() {
        assert_eq!(clock(Duration::from_millis(1_700_000_000_123)), "22:13:20.123");
    }

    #[test]
    fn consecutive_frames_differ_and_equal_frames_do_not() {
        let mut pattern = Pattern::new(Resolution::new(640, 480).unwrap()).unwrap();
        let mut draw = |number: u64| {
            let mut picture = Picture::black(pattern.resolution());
            let elapsed = Duration::from_millis(number * 33);
            pattern.draw(&mut picture, number, elapsed, elapsed);
            picture
        };
        let (first, second, again) = (draw(1), draw(2), draw(1));
        assert!(first == again, "the picture depends on its arguments only");
        let changed = first.data().iter().zip(second.data()).filter(|(a, b)| a != b).count();
        assert!(changed * 20 > first.data().len(), "only {changed} of {} samples moved", first.data().len());
    }

    #[test]
    fn the_bars_are_the_colours_they_should_be() {
        let resolution = Resolution::new(1_280, 720).unwrap();
        let mut pattern = Pattern::new(resolution).unwrap();
        let mut picture = Picture::black(resolution);
        pattern.draw(&mut picture, 0, Duration::ZERO, Duration::ZERO);
        let planes = picture.planes();
        let (x, y) = (1_280 * 13 / 14, 40);
        let blue = [planes.y[y * 1_280 + x], planes.u[y / 2 * 640 + x / 2], planes.v[y / 2 * 640 + x / 2]];
        assert_eq!(blue, [35, 212, 114]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_frame_of_any_size_can_be_drawn_and_names_itself(
            resolution in resolutions(), number in any::<u64>(), elapsed in 0_u64..1 << 50, millis in 0_u64..1 << 48
        ) {
            let mut pattern = Pattern::new(resolution).expect("both sides are at least 64");
            let mut picture = Picture::black(resolution);
            let captured_unix = Duration::from_millis(millis);
            pattern.draw(&mut picture, number, Duration::from_millis(elapsed), captured_unix);
            prop_assert_eq!(BurnIn::read(&picture), Some(BurnIn { number: number as u32, captured_unix }));
        }
    }
}
