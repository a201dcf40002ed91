//! Y4M, the raw video of mjpegtools (`man yuv4mpeg`): one line of header, then frames of planar samples.
//!
//! A reader over anything that can be read; it opens no file and keeps no time. Accepts what lenscast can show without
//! guessing: 8 bits, 4:2:0 in every chroma siting, progressive or not, full or limited range (converted to limited).
//!
//! **Invariants.** Any bytes at all give frames or an error that names the field, its value and what is legal; memory
//! stays below one row and one header line, whatever the bytes say.
//!
//! What it does not do: deinterlace, or correct the siting of chroma (a quarter of a pixel).

use std::io::{self, BufRead, Read};

use lenscast_media::{Picture, Resolution};
use thiserror::Error;

use crate::{FrameRate, range};

/// Reads the frames of a Y4M stream one by one.
#[derive(Debug)]
pub struct Y4mReader<R> {
    input: R,
    header: Y4mHeader,
    /// Frames read or skipped so far.
    frames: u64,
    /// One row of samples, when rows are longer than what is kept of them.
    row: Vec<u8>,
}

/// What the header line says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Y4mHeader {
    width: u32,
    height: u32,
    resolution: Resolution,
    rate: FrameRate,
    full_range: bool,
}

/// The first bytes of every Y4M stream.
pub(crate) const MAGIC: &[u8] = b"YUV4MPEG2 ";
/// The longest header line that is read, in bytes. What writers in use emit is below 200.
const MAX_HEADER: u64 = 4_096;
/// The longest line before a frame that is read, in bytes.
const MAX_FRAME_HEADER: u64 = 256;
/// What of a wrong value is shown in an error, in characters.
const SHOWN: usize = 40;

/// Why a stream cannot be played.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum OpenY4mError {
    /// Reading failed.
    #[error("cannot read the Y4M header: {0}")]
    Io(#[from] io::Error),
    /// It is something else.
    #[error("not a Y4M stream: begins with {found:?} instead of \"YUV4MPEG2 \"")]
    Magic {
        /// What is there.
        found: String,
    },
    /// The line does not end.
    #[error("the Y4M header line is longer than {MAX_HEADER} bytes, or the stream ends in it")]
    Unterminated,
    /// A field that cannot be done without is not there.
    #[error("the Y4M header has no field {field} ({meaning})")]
    Missing {
        /// The field's letter.
        field: char,
        /// What it stands for.
        meaning: &'static str,
    },
    /// A field has a value that is wrong, or that lenscast cannot play.
    #[error("Y4M header field {field} ({meaning}) is {value:?}: must be {legal}")]
    Field {
        /// The field's letter.
        field: char,
        /// What it stands for.
        meaning: &'static str,
        /// Its value, shortened if it is long.
        value: String,
        /// What it may be.
        legal: String,
    },
}

/// Why a frame cannot be read. Nothing can be read after it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReadY4mFrameError {
    /// Reading failed.
    #[error("cannot read Y4M frame {frame}: {source}")]
    Io {
        /// Counted from 0.
        frame: u64,
        /// Why.
        source: io::Error,
    },
    /// The stream ends in the frame.
    #[error("Y4M frame {frame} is truncated")]
    Truncated {
        /// Counted from 0.
        frame: u64,
    },
    /// There is something else where the frame should begin.
    #[error("Y4M frame {frame} begins with {found:?} instead of \"FRAME\"")]
    Marker {
        /// Counted from 0.
        frame: u64,
        /// What is there, shortened if it is long.
        found: String,
    },
}

impl Y4mHeader {
    /// The size of the pictures: what the header says, less a pixel where that is odd.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// Frames a second.
    #[must_use]
    pub const fn rate(&self) -> FrameRate {
        self.rate
    }

    fn parse(line: &str) -> Result<Self, OpenY4mError> {
        let (mut width, mut height, mut rate) = (None, None, None);
        let mut full_range = false;
        for field in line.split(' ').filter(|field| !field.is_empty()) {
            let letter = field.chars().next().expect("empty fields are filtered out");
            let value = &field[letter.len_utf8()..];
            match letter {
                'W' => width = Some(side('W', "width", value)?),
                'H' => height = Some(side('H', "height", value)?),
                'F' => rate = Some(frame_rate(value)?),
                'C' if matches!(value, "420" | "420jpeg" | "420paldv" | "420mpeg2") => {}
                'C' => {
                    return Err(wrong('C', "chroma", value, "420, 420jpeg, 420paldv or 420mpeg2 (8 bits, 4:2:0)"));
                }
                'I' if matches!(value, "p" | "t" | "b" | "m" | "?") => {}
                'I' => return Err(wrong('I', "interlacing", value, "p, t, b, m or ?")),
                // Written by ffmpeg; the format itself says nothing of the range.
                'X' if value == "COLORRANGE=FULL" => full_range = true,
                // Aspect ratio, comments, and whatever is to come: shown as if it were not there.
                _ => {}
            }
        }
        let missing = |field, meaning| OpenY4mError::Missing { field, meaning };
        let width = width.ok_or(missing('W', "width"))?;
        let height = height.ok_or(missing('H', "height"))?;
        let rate = rate.ok_or(missing('F', "frame rate"))?;
        let resolution = Resolution::new(width & !1, height & !1).expect("`side` admits only such sides");
        Ok(Self { width, height, resolution, rate, full_range })
    }

    /// Bytes of one frame's samples.
    fn frame_len(&self) -> u64 {
        let (width, height) = (u64::from(self.width), u64::from(self.height));
        width * height + 2 * width.div_ceil(2) * height.div_ceil(2)
    }
}

impl<R: BufRead> Y4mReader<R> {
    /// Reads the header from `input`.
    ///
    /// # Errors
    ///
    /// [`OpenY4mError`]
    pub fn new(mut input: R) -> Result<Self, OpenY4mError> {
        let mut line = Vec::new();
        input.by_ref().take(MAGIC.len() as u64).read_to_end(&mut line)?;
        if line != MAGIC {
            return Err(OpenY4mError::Magic { found: shown(&line) });
        }
        line.clear();
        input.by_ref().take(MAX_HEADER).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(OpenY4mError::Unterminated);
        }
        let header = Y4mHeader::parse(&String::from_utf8_lossy(&line))?;
        Ok(Self { input, header, frames: 0, row: Vec::new() })
    }

    /// What the header said.
    #[must_use]
    pub const fn header(&self) -> &Y4mHeader {
        &self.header
    }

    /// Frames read or passed over so far.
    pub(crate) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Reads the next frame into `picture`. False at the end of the stream, `picture` is then as it was.
    ///
    /// # Errors
    ///
    /// [`ReadY4mFrameError`]; `picture` may then be half written.
    ///
    /// # Panics
    ///
    /// If `picture` is not of the header's [`Y4mHeader::resolution`].
    pub fn read_frame(&mut self, picture: &mut Picture) -> Result<bool, ReadY4mFrameError> {
        let Y4mHeader { width, height, resolution, full_range, .. } = self.header;
        assert_eq!(picture.resolution(), resolution, "the caller gives a picture of the stream's size");
        if !self.begin_frame()? {
            return Ok(false);
        }
        if (width, height) == (resolution.width(), resolution.height()) {
            let frame = self.frames;
            self.input.read_exact(picture.data_mut()).map_err(|source| in_frame(frame, source))?;
        } else {
            let planes = picture.planes_mut();
            let (kept, chroma_kept) = (resolution.width(), resolution.width() / 2);
            self.read_plane(planes.y, kept, width, height)?;
            self.read_plane(planes.u, chroma_kept, width.div_ceil(2), height.div_ceil(2))?;
            self.read_plane(planes.v, chroma_kept, width.div_ceil(2), height.div_ceil(2))?;
        }
        if full_range {
            let planes = picture.planes_mut();
            planes.y.iter_mut().for_each(|luma| *luma = range::LUMA[usize::from(*luma)]);
            planes.u.iter_mut().chain(planes.v).for_each(|chroma| *chroma = range::CHROMA[usize::from(*chroma)]);
        }
        self.frames += 1;
        Ok(true)
    }

    /// Passes over the next frame. False at the end of the stream.
    ///
    /// # Errors
    ///
    /// [`ReadY4mFrameError`]
    pub fn skip_frame(&mut self) -> Result<bool, ReadY4mFrameError> {
        if !self.begin_frame()? {
            return Ok(false);
        }
        let (frame, length) = (self.frames, self.header.frame_len());
        let skipped = io::copy(&mut self.input.by_ref().take(length), &mut io::sink());
        if skipped.map_err(|source| in_frame(frame, source))? < length {
            return Err(ReadY4mFrameError::Truncated { frame });
        }
        self.frames += 1;
        Ok(true)
    }

    /// Reads the line before a frame. False at the end of the stream.
    fn begin_frame(&mut self) -> Result<bool, ReadY4mFrameError> {
        let frame = self.frames;
        let mut line = Vec::new();
        let line_end = self.input.by_ref().take(MAX_FRAME_HEADER).read_until(b'\n', &mut line);
        line_end.map_err(|source| in_frame(frame, source))?;
        match line.as_slice() {
            [] => Ok(false),
            [b'F', b'R', b'A', b'M', b'E', b'\n' | b' ', ..] if line.ends_with(b"\n") => Ok(true),
            begun if begun.len() < MAX_FRAME_HEADER as usize && !begun.ends_with(b"\n") && is_frame_line(begun) => {
                Err(ReadY4mFrameError::Truncated { frame })
            }
            other => Err(ReadY4mFrameError::Marker { frame, found: shown(other) }),
        }
    }

    /// Reads a plane of `width` × `height` samples and keeps the first `kept` of each row, for as many rows as fit.
    fn read_plane(&mut self, plane: &mut [u8], kept: u32, width: u32, height: u32) -> Result<(), ReadY4mFrameError> {
        let frame = self.frames;
        let mut rows = plane.chunks_exact_mut(kept as usize);
        self.row.resize(width as usize, 0);
        for _ in 0..height {
            self.input.read_exact(&mut self.row).map_err(|source| in_frame(frame, source))?;
            if let Some(row) = rows.next() {
                row.copy_from_slice(&self.row[..kept as usize]);
            }
        }
        Ok(())
    }
}

/// True for what may be the beginning of a frame's line.
fn is_frame_line(line: &[u8]) -> bool {
    let marker = b"FRAME";
    line.iter().zip(marker).all(|(byte, expected)| byte == expected)
        && line.get(marker.len()).is_none_or(|b| *b == b' ')
}

fn in_frame(frame: u64, source: io::Error) -> ReadY4mFrameError {
    match source.kind() {
        io::ErrorKind::UnexpectedEof => ReadY4mFrameError::Truncated { frame },
        _ => ReadY4mFrameError::Io { frame, source },
    }
}

fn side(field: char, meaning: &'static str, value: &str) -> Result<u32, OpenY4mError> {
    let range = Resolution::MIN_SIDE..=Resolution::MAX_SIDE;
    match number(value) {
        Some(side) if range.contains(&side) => Ok(side),
        _ => Err(wrong(field, meaning, value, &format!("{} to {} pixels", range.start(), range.end()))),
    }
}

fn frame_rate(value: &str) -> Result<FrameRate, OpenY4mError> {
    let rate = value.split_once(':').and_then(|(frames, seconds)| FrameRate::new(number(frames)?, number(seconds)?));
    rate.ok_or_else(|| {
        let legal = format!("a fraction such as 30000:1001, {} to {} frames a second", FrameRate::MIN, FrameRate::MAX);
        wrong('F', "frame rate", value, &legal)
    })
}

/// Digits only: `u32`'s own parser takes a sign too.
fn number(digits: &str) -> Option<u32> {
    if digits.bytes().all(|byte| byte.is_ascii_digit()) { digits.parse().ok() } else { None }
}

fn wrong(field: char, meaning: &'static str, value: &str, legal: &str) -> OpenY4mError {
    OpenY4mError::Field { field, meaning, value: shown(value.as_bytes()), legal: legal.to_owned() }
}

fn shown(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    text.chars().take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(line: &str) -> Result<Y4mHeader, OpenY4mError> {
        Y4mReader::new(format!("YUV4MPEG2 {line}\n").as_bytes()).map(|reader| *reader.header())
    }

    /// A stream of `frames` pictures whose samples count up, with `parameters` after each FRAME.
    fn stream(width: usize, height: usize, frames: usize, parameters: &str) -> Vec<u8> {
        let mut bytes = format!("YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n").into_bytes();
        let samples = width * height + 2 * width.div_ceil(2) * height.div_ceil(2);
        for frame in 0..frames {
            bytes.extend_from_slice(format!("FRAME{parameters}\n").as_bytes());
            bytes.extend((0..samples).map(|at| sample(frame, at)));
        }
        bytes
    }

    fn sample(frame: usize, at: usize) -> u8 {
        (frame * 7 + at * 13 + at / 251) as u8
    }

    fn blank(header: &Y4mHeader) -> Picture {
        Picture::black(header.resolution())
    }

    #[test]
    fn reads_the_header_that_ffmpeg_writes() {
        let header = header("W320 H240 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED").unwrap();
        assert_eq!(header.resolution(), Resolution::new(320, 240).unwrap());
        assert_eq!(header.rate(), FrameRate::new(30_000, 1_001).unwrap());
        assert!(!header.full_range);
    }

    #[test]
    fn an_absurd_header_is_refused_by_field_value_and_legal_range() {
        for (line, expected) in [
            ("W0 H240 F25:1", ["W (width)", "\"0\"", "16 to 4096"]),
            ("W320 H4097 F25:1", ["H (height)", "\"4097\"", "16 to 4096"]),
            ("W320 H99999999999999999999 F25:1", ["H (height)", "\"99999999999999999999\"", "16 to 4096"]),
            ("W+320 H240 F25:1", ["W (width)", "\"+320\"", "16 to 4096"]),
            ("W320 H240 F0:1", ["F (frame rate)", "\"0:1\"", "1 to 240"]),
            ("W320 H240 F25:0", ["F (frame rate)", "\"25:0\"", "1 to 240"]),
            ("W320 H240 F25", ["F (frame rate)", "\"25\"", "1 to 240"]),
            ("W320 H240 F1000:1", ["F (frame rate)", "\"1000:1\"", "1 to 240"]),
            ("W320 H240 F25:1 C422", ["C (chroma)", "\"422\"", "420"]),
            ("W320 H240 F25:1 C420p10", ["C (chroma)", "\"420p10\"", "8 bits"]),
            ("W320 H240 F25:1 Cmono", ["C (chroma)", "\"mono\"", "420"]),
            ("W320 H240 F25:1 Ix", ["I (interlacing)", "\"x\"", "p, t, b, m or ?"]),
            ("H240 F25:1", ["no field W", "width", ""]),
            ("W320 F25:1", ["no field H", "height", ""]),
            ("W320 H240", ["no field F", "frame rate", ""]),
        ] {
            let text = header(line).unwrap_err().to_string();
            assert!(expected.iter().all(|part| text.contains(part)), "{line}: {text}");
        }
    }

    #[test]
    fn a_header_without_end_is_refused_without_reading_it_all() {
        let megabyte = [b"YUV4MPEG2 W320 ".as_slice(), &vec![b'x'; 1 << 20]].concat();
        let mut input = megabyte.as_slice();
        assert!(matches!(Y4mReader::new(&mut input), Err(OpenY4mError::Unterminated)));
        assert!(input.len() > (1 << 20) - 5_000, "read {} bytes", megabyte.len() - input.len());
        let value = "9".repeat(3_000);
        assert!(header(&format!("W{value} H240 F25:1")).unwrap_err().to_string().len() < 200);
    }

    #[test]
    fn what_is_no_y4m_is_refused_with_its_first_bytes() {
        let error = Y4mReader::new(b"RIFF\0\0\0\0AVI LIST".as_slice()).unwrap_err();
        assert!(error.to_string().contains("RIFF"), "{error}");
        assert!(matches!(Y4mReader::new(b"".as_slice()), Err(OpenY4mError::Magic { found }) if found.is_empty()));
    }

    #[test]
    fn full_range_becomes_limited() {
        let mut bytes = b"YUV4MPEG2 W16 H16 F25:1 C420jpeg XCOLORRANGE=FULL\nFRAME\n".to_vec();
        bytes.extend([255; 256]);
        bytes.extend([0; 64]);
        bytes.extend([128; 64]);
        let mut reader = Y4mReader::new(bytes.as_slice()).unwrap();
        let mut picture = blank(reader.header());
        assert!(reader.read_frame(&mut picture).unwrap());
        let planes = picture.planes();
        assert_eq!((planes.y[0], planes.u[0], planes.v[0]), (235, 16, 128));
    }

    #[test]
    fn garbage_between_frames_is_named() {
        let mut bytes = stream(16, 16, 1, "");
        bytes.extend_from_slice(b"FRAMES\nmore");
        let mut reader = Y4mReader::new(bytes.as_slice()).unwrap();
        let mut picture = blank(reader.header());
        assert!(reader.read_frame(&mut picture).unwrap());
        let error = reader.read_frame(&mut picture).unwrap_err();
        assert!(
            matches!(&error, ReadY4mFrameError::Marker { frame: 1, found } if found.starts_with("FRAMES")),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn frames_come_back_as_they_were_written_less_an_odd_row_or_column(
            width in 16_usize..80, height in 16_usize..60, frames in 0_usize..4, skipped in 0_usize..4, tagged in any::<bool>()
        ) {
            let bytes = stream(width, height, frames, if tagged { " Ip XNOTE" } else { "" });
            let mut reader = Y4mReader::new(bytes.as_slice()).unwrap();
            let mut picture = blank(reader.header());
            let (even_width, even_height) = (width & !1, height & !1);
            for frame in 0..frames {
                if frame == skipped {
                    prop_assert!(reader.skip_frame().unwrap());
                    continue;
                }
                prop_assert!(reader.read_frame(&mut picture).unwrap());
                let planes = picture.planes();
                let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
                for (plane, start, row_length, kept, rows) in [
                    (planes.y, 0, width, even_width, even_height),
                    (planes.u, width * height, chroma_width, even_width / 2, even_height / 2),
                    (planes.v, width * height + chroma_width * chroma_height, chroma_width, even_width / 2, even_height / 2),
                ] {
                    for row in 0..rows {
                        let expected = (0..kept).map(|column| sample(frame, start + row * row_length + column));
                        prop_assert!(plane[row * kept..][..kept].iter().copied().eq(expected), "frame {} row {}", frame, row);
                    }
                }
            }
            prop_assert!(!reader.read_frame(&mut picture).unwrap());
            prop_assert!(!reader.skip_frame().unwrap());
        }

        #[test]
        fn a_cut_stream_gives_its_whole_frames_and_then_says_truncated(cut in 1_usize..2_000, skip in any::<bool>()) {
            let whole = stream(17, 18, 4, "");
            let header_length = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let frame_length = (whole.len() - header_length) / 4;
            let cut = cut.min(whole.len() - header_length);
            let bytes = &whole[..whole.len() - cut];
            let mut reader = Y4mReader::new(bytes).unwrap();
            let mut picture = blank(reader.header());
            let mut read = || if skip { reader.skip_frame() } else { reader.read_frame(&mut picture) };
            let left = whole.len() - header_length - cut;
            for frame in 0..left / frame_length {
                prop_assert!(read().unwrap(), "frame {} is whole", frame);
            }
            if left.is_multiple_of(frame_length) {
                prop_assert!(!read().unwrap());
            } else {
                let expected = (left / frame_length) as u64;
                let truncated_at = match read() {
                    Err(ReadY4mFrameError::Truncated { frame }) => Some(frame),
                    _ => None,
                };
                prop_assert_eq!(truncated_at, Some(expected));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..600),
            line in "(W[0-9]{0,5} |H[0-9]{0,5} |F[0-9:]{0,9} |C[a-z0-9]{0,8} |I.? |.{0,9} ){0,8}",
        ) {
            for start in [&b""[..], b"YUV4MPEG2 ", format!("YUV4MPEG2 {line}\n").as_bytes()] {
                let input = [start, &bytes].concat();
                let Ok(mut reader) = Y4mReader::new(input.as_slice()) else { continue };
                let mut picture = blank(reader.header());
                while let Ok(true) = reader.read_frame(&mut picture) {}
            }
        }
    }
}
