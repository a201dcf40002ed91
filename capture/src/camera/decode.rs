use lenscast_media::{Picture, Resolution};
use thiserror::Error;

use crate::PixelFormat;
use crate::camera::mjpeg::MjpegDecoder;
use crate::camera::raw::{nv12_to_i420, yuyv_to_i420};

/// Why a camera's frame is no picture. The frame is dropped and counted, the stream goes on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeFrameError {
    /// It ends before its last pixel.
    #[error("a frame of {got} bytes where {need} are needed")]
    Short {
        /// Bytes there are.
        got: usize,
        /// Bytes there must be.
        need: usize,
    },
    /// It is not of the size that was agreed on with the camera.
    #[error("a frame of {width}x{height} where {expected} was agreed")]
    Size {
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// What it should be.
        expected: Resolution,
    },
    /// It is no JPEG, or a damaged one.
    #[error("a frame that cannot be decoded: {why}")]
    Undecodable {
        /// What the decoder says.
        why: String,
    },
}

/// Makes pictures of a camera's frames.
#[derive(Debug)]
pub(crate) struct FrameDecoder {
    format: PixelFormat,
    /// Bytes from row to row of a raw format; 0 if the rows follow without a gap.
    stride: usize,
    mjpeg: MjpegDecoder,
}

impl FrameDecoder {
    pub(crate) fn new(format: PixelFormat, stride: usize) -> Self {
        Self { format, stride, mjpeg: MjpegDecoder::new() }
    }

    pub(crate) fn decode(&mut self, data: &[u8], picture: &mut Picture) -> Result<(), DecodeFrameError> {
        match self.format {
            PixelFormat::Nv12 => nv12_to_i420(data, self.stride, picture),
            PixelFormat::Yuyv => yuyv_to_i420(data, self.stride, picture),
            PixelFormat::Mjpeg => self.mjpeg.decode(data, picture),
        }
    }
}
