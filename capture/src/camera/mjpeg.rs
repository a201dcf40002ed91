//! A camera's JPEG pictures to I420.
//!
//! JPEG is full range BT.601 (JFIF 1.02 page 3) with chroma at any resolution; a [`Picture`] is limited range with chroma
//! halved both ways. Cameras write JPEG in their own way: without Huffman tables (those of the JPEG standard's annex K are
//! then meant), and with garbage behind the picture.
//!
//! **Invariants.** Any bytes at all give a picture or an error; memory stays below what the expected size needs. A picture
//! that lacks its end is an error.

use lenscast_media::{Picture, Resolution};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::{DecodeFrameError, range};

/// Decodes JPEG pictures, one after the other into the same memory.
#[derive(Debug, Default)]
pub struct MjpegDecoder {
    /// Interleaved Y, U, V at full resolution, or Y alone.
    pixels: Vec<u8>,
    /// The picture with a marker added.
    completed: Vec<u8>,
}

/// An APP0 segment that says "this is a frame of an AVI": for the decoder, that missing Huffman tables are the standard's.
const AVI1: &[u8] = b"\xff\xe0\x00\x10AVI1\0\0\0\0\0\0\0\0\0\0";

impl MjpegDecoder {
    /// A decoder without memory yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fills `picture` from the JPEG at the beginning of `data`.
    ///
    /// # Errors
    ///
    /// [`DecodeFrameError`] if that is none, is cut short or damaged, or is of another size; `picture` is then as it was.
    pub fn decode(&mut self, data: &[u8], picture: &mut Picture) -> Result<(), DecodeFrameError> {
        let undecodable = |why: String| DecodeFrameError::Undecodable { why };
        let headers = Headers::of(data);
        if !headers.sampling_is_sound {
            // The decoder draws these wrong, and says nothing (zune-jpeg 0.5.15).
            return Err(undecodable("chroma below half of the width or height".to_owned()));
        }
        let data = if headers.lack_tables {
            self.completed.clear();
            self.completed.extend_from_slice(&data[..2]);
            self.completed.extend_from_slice(AVI1);
            self.completed.extend_from_slice(&data[2..]);
            &self.completed
        } else {
            data
        };
        let expected = picture.resolution();
        let side = Resolution::MAX_SIDE as usize;
        let options = DecoderOptions::default().set_strict_mode(true).set_max_width(side).set_max_height(side);
        let mut decoder = JpegDecoder::new_with_options(ZCursor::new(data), options);
        decoder.decode_headers().map_err(|error| undecodable(error.to_string()))?;
        let info = decoder.info().ok_or_else(|| undecodable("no header".to_owned()))?;
        let size = (u32::from(info.width), u32::from(info.height));
        if size != (expected.width(), expected.height()) {
            return Err(DecodeFrameError::Size { width: size.0, height: size.1, expected });
        }
        let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
        let colours = if grey { ColorSpace::Luma } else { ColorSpace::YCbCr };
        decoder.set_options(options.jpeg_set_out_colorspace(colours));
        let length = decoder.output_buffer_size().ok_or_else(|| undecodable("no size".to_owned()))?;
        if length != expected.pixels() * if grey { 1 } else { 3 } {
            return Err(undecodable(format!("{} components", info.components)));
        }
        self.pixels.resize(length, 0);
        decoder.decode_into(&mut self.pixels).map_err(|error| undecodable(error.to_string()))?;
        if grey {
            grey_to_i420(&self.pixels, picture);
        } else {
            ycbcr_to_i420(&self.pixels, picture);
        }
        Ok(())
    }
}

/// What the decoder must be told, or kept from, by the segments before the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Headers {
    /// There is no Huffman table.
    lack_tables: bool,
    /// No component is sampled at less than half the rate of another.
    sampling_is_sound: bool,
}

impl Headers {
    /// Of bytes that are no JPEG it finds nothing amiss: that is for the decoder to say.
    fn of(data: &[u8]) -> Self {
        const SOI: &[u8] = b"\xff\xd8";
        const DHT: u8 = 0xC4;
        const SOS: u8 = 0xDA;
        let mut headers = Self { lack_tables: false, sampling_is_sound: true };
        let mut tables = false;
        let Some(mut rest) = data.strip_prefix(SOI) else { return headers };
        while let [0xFF, marker, high, low, ..] = rest {
            if *marker == 0xFF {
                // Fill bytes may come before any marker.
                rest = &rest[1..];
                continue;
            }
            let end = 2 + usize::from(u16::from_be_bytes([*high, *low]));
            match *marker {
                SOS => {
                    headers.lack_tables = !tables;
                    return headers;
                }
                DHT => tables = true,
                // Baseline, extended and progressive frames. ITU-T T.81 §B.2.2: the components come after six bytes.
                0xC0..=0xC2 => {
                    let components = rest.get(10..end).unwrap_or_default().chunks_exact(3);
                    let factors = components.flat_map(|component| [component[1] >> 4, component[1] & 0xF]);
                    headers.sampling_is_sound = factors.into_iter().all(|factor| matches!(factor, 1 | 2));
                }
                _ => {}
            }
            let Some(after) = rest.get(end..) else { break };
            rest = after;
        }
        headers
    }
}

fn grey_to_i420(pixels: &[u8], picture: &mut Picture) {
    let planes = picture.planes_mut();
    for (luma, full) in planes.y.iter_mut().zip(pixels) {
        *luma = range::LUMA[usize::from(*full)];
    }
    planes.u.fill(128);
    planes.v.fill(128);
}

/// Narrows the range, and makes one chroma sample of four.
fn ycbcr_to_i420(pixels: &[u8], picture: &mut Picture) {
    let width = picture.resolution().width() as usize;
    let planes = picture.planes_mut();
    let chroma = planes.u.chunks_exact_mut(width / 2).zip(planes.v.chunks_exact_mut(width / 2));
    let luma = planes.y.chunks_exact_mut(2 * width);
    for ((luma, (u, v)), pixels) in luma.zip(chroma).zip(pixels.chunks_exact(2 * 3 * width)) {
        let (upper, lower) = pixels.split_at(3 * width);
        let (upper_luma, lower_luma) = luma.split_at_mut(width);
        let (upper, lower) = (upper.as_chunks::<6>().0, lower.as_chunks::<6>().0);
        let lumas = upper_luma.as_chunks_mut::<2>().0.iter_mut().zip(lower_luma.as_chunks_mut::<2>().0);
        for (((above, below), (upper, lower)), (u, v)) in lumas.zip(upper.iter().zip(lower)).zip(u.iter_mut().zip(v)) {
            *above = [range::LUMA[usize::from(upper[0])], range::LUMA[usize::from(upper[3])]];
            *below = [range::LUMA[usize::from(lower[0])], range::LUMA[usize::from(lower[3])]];
            let mean = |at: usize| {
                let sum = [upper[at], upper[at + 3], lower[at], lower[at + 3]].into_iter().map(u16::from).sum::<u16>();
                usize::from((sum + 2) / 4)
            };
            *u = range::CHROMA[mean(1)];
            *v = range::CHROMA[mean(2)];
        }
    }
}

#[cfg(test)]
mod tests {
    use jpeg_encoder::{ColorType, Encoder, SamplingFactor};
    use proptest::prelude::*;

    use super::*;

    /// A JPEG whose left half is one RGB colour and whose right half is another.
    fn jpeg(width: u16, height: u16, colours: [[u8; 3]; 2], sampling: SamplingFactor) -> Vec<u8> {
        let pixels: Vec<u8> = (0..usize::from(width) * usize::from(height))
            .flat_map(|at| colours[usize::from(at % usize::from(width) >= usize::from(width) / 2)])
            .collect();
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 95);
        encoder.set_sampling_factor(sampling);
        encoder.encode(&pixels, width, height, ColorType::Rgb).unwrap();
        bytes
    }

    const RED_BLUE: [[u8; 3]; 2] = [[255, 0, 0], [0, 0, 255]];

    /// The same without its Huffman tables, as many cameras send it.
    fn without_tables(jpeg: &[u8]) -> Vec<u8> {
        let mut stripped = jpeg[..2].to_vec();
        let mut at = 2;
        while jpeg[at + 1] != 0xDA {
            let end = at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]]));
            if jpeg[at + 1] != 0xC4 {
                stripped.extend_from_slice(&jpeg[at..end]);
            }
            at = end;
        }
        stripped.extend_from_slice(&jpeg[at..]);
        stripped
    }

    fn blank(width: u32, height: u32) -> Picture {
        Picture::black(Resolution::new(width, height).unwrap())
    }

    /// The colours a quarter and three quarters across the middle.
    fn halves(picture: &Picture) -> [[u8; 3]; 2] {
        let (width, height) = (picture.resolution().width() as usize, picture.resolution().height() as usize);
        let planes = picture.planes();
        [width / 4, width * 3 / 4].map(|x| {
            let chroma = height / 4 * (width / 2) + x / 2;
            [planes.y[height / 2 * width + x], planes.u[chroma], planes.v[chroma]]
        })
    }

    /// Red and blue in limited-range BT.601, by the matrix of ITU-R BT.601-7 §2.5.
    fn assert_red_and_blue(picture: &Picture) {
        for (got, want) in halves(picture).iter().zip([[81_u8, 90, 240], [41, 240, 110]]) {
            assert!(got.iter().zip(want).all(|(got, want)| got.abs_diff(want) <= 3), "{got:?} is not {want:?}");
        }
    }

    #[test]
    fn full_range_in_any_chroma_layout_becomes_limited_4_2_0() {
        use SamplingFactor::{F_1_1, F_1_2, F_2_1, F_2_2};
        for sampling in [F_1_1, F_2_1, F_1_2, F_2_2] {
            let mut picture = blank(64, 48);
            MjpegDecoder::new().decode(&jpeg(64, 48, RED_BLUE, sampling), &mut picture).unwrap();
            assert_red_and_blue(&picture);
            let mut picture = blank(64, 48);
            let white_black = jpeg(64, 48, [[255; 3], [0; 3]], sampling);
            MjpegDecoder::new().decode(&white_black, &mut picture).unwrap();
            assert_eq!(halves(&picture), [[235, 128, 128], [16, 128, 128]]);
        }
    }

    #[test]
    fn a_grey_picture_has_no_colour() {
        let mut bytes = Vec::new();
        Encoder::new(&mut bytes, 95).encode(&[255; 64 * 48], 64, 48, ColorType::Luma).unwrap();
        let mut picture = blank(64, 48);
        picture.data_mut().fill(7);
        MjpegDecoder::new().decode(&bytes, &mut picture).unwrap();
        assert_eq!(halves(&picture), [[235, 128, 128]; 2]);
    }

    #[test]
    fn missing_huffman_tables_are_the_standards() {
        let stripped = without_tables(&jpeg(64, 48, RED_BLUE, SamplingFactor::F_2_1));
        assert!(Headers::of(&stripped).lack_tables);
        let mut picture = blank(64, 48);
        MjpegDecoder::new().decode(&stripped, &mut picture).unwrap();
        assert_red_and_blue(&picture);
    }

    #[test]
    fn a_chroma_layout_that_would_be_drawn_wrong_is_refused() {
        for sampling in [SamplingFactor::F_4_1, SamplingFactor::F_4_2, SamplingFactor::F_1_4] {
            let error = MjpegDecoder::new().decode(&jpeg(64, 48, RED_BLUE, sampling), &mut blank(64, 48)).unwrap_err();
            assert!(error.to_string().contains("below half"), "{error}");
        }
    }

    #[test]
    fn garbage_behind_the_picture_does_not_matter() {
        let mut decoder = MjpegDecoder::new();
        let whole = jpeg(64, 48, RED_BLUE, SamplingFactor::F_2_1);
        for garbage in [&[0_u8; 5_000][..], &[0xFF; 5_000], &whole] {
            let mut picture = blank(64, 48);
            decoder.decode(&[&whole, garbage].concat(), &mut picture).unwrap();
            assert_red_and_blue(&picture);
        }
    }

    #[test]
    fn another_size_is_refused_by_both_sizes() {
        let error =
            MjpegDecoder::new().decode(&jpeg(64, 48, RED_BLUE, SamplingFactor::F_2_1), &mut blank(64, 64)).unwrap_err();
        assert_eq!(error.to_string(), "a frame of 64x48 where 64x64 was agreed");
    }

    /// The end-of-image marker, and padding of the last byte of the picture, can be missing without a pixel missing.
    #[test]
    fn a_cut_picture_is_an_error_unless_nothing_of_it_is_missing() {
        let bytes = jpeg(128, 96, [[200, 30, 60], [10, 250, 90]], SamplingFactor::F_2_2);
        let mut decoder = MjpegDecoder::new();
        let mut whole = blank(128, 96);
        decoder.decode(&bytes, &mut whole).unwrap();
        for length in 0..bytes.len() {
            let mut picture = blank(128, 96);
            match decoder.decode(&bytes[..length], &mut picture) {
                Ok(()) => assert!(length + 8 > bytes.len() && picture == whole, "{length} of {} bytes", bytes.len()),
                Err(_) => assert!(picture == blank(128, 96), "{length} of {} bytes", bytes.len()),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn no_bytes_make_it_panic(
            noise in prop::collection::vec(any::<u8>(), 0..300),
            flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8)
        ) {
            let mut decoder = MjpegDecoder::new();
            let _ = decoder.decode(&noise, &mut blank(64, 48));
            let _ = decoder.decode(&[b"\xff\xd8", &noise[..]].concat(), &mut blank(64, 48));
            let mut damaged = jpeg(64, 48, RED_BLUE, SamplingFactor::F_2_1);
            for (index, value) in flips {
                let at = index.index(damaged.len());
                damaged[at] = value;
            }
            let _ = decoder.decode(&damaged, &mut blank(64, 48));
        }
    }
}
