//! VP8 over the crate `vpx-encode`: the plain fallback, for comparison and for when the wrapper of ours is in doubt.
//!
//! The crate can neither change a rate nor ask for a key frame, so both rebuild the encoder, and every change of rate
//! makes a key frame. It takes libvpx's defaults (VBR, 8 threads, no intra cap, error-resilient, a key frame every 128
//! frames).
//!
//! **Invariants.** What comes out was made from the picture just handed in: libvpx's default for VP8 is no lag. An encoder
//! whose first frame is still to come is not rebuilt for a key frame: that frame is one.
//!
//! What it does not do: keep key frames small, drop frames, or tell quantizers; or VP9, for which libvpx's default is a
//! lag of 24 frames.

#![allow(unsafe_code)]

use std::ffi::c_uint;

use lenscast_media::{Bitrate, Picture, Resolution};
use vpx_encode::{Config, Encoder, VideoCodecId};

use crate::EncoderSettings;
use crate::frame_clock::FrameTime;
use crate::live_encoder::{FrameInfo, Library, LibraryError};
use crate::temporal_layers::LayerPlace;

pub(crate) struct VpxEncode {
    resolution: Resolution,
    target: Bitrate,
    encoder: SendEncoder,
    /// It has made no frame yet: its first is a key frame.
    fresh: bool,
    /// The target has changed since the encoder was built.
    outdated: bool,
    /// Of the last picture, in milliseconds; no two may have the same.
    last_pts: Option<i64>,
    output: Vec<u8>,
}

struct SendEncoder(Encoder);

// SAFETY: libvpx ties a context to no thread (it uses no thread-local state, and sets its tables up under
// `pthread_once`), and the crate adds nothing that does; it only lacks the marker because it holds pointers. All use
// goes through `&mut VpxEncode`.
unsafe impl Send for SendEncoder {}

impl VpxEncode {
    fn rebuild(&mut self) -> Result<(), LibraryError> {
        self.encoder = start_encoder(self.resolution, self.target)?;
        self.fresh = true;
        self.outdated = false;
        Ok(())
    }
}

impl Library for VpxEncode {
    const KEEPS_BUDGET: bool = false;
    const RESTARTS: bool = false;

    fn start(settings: &EncoderSettings) -> Result<Self, LibraryError> {
        let EncoderSettings { resolution, bitrate: target, .. } = *settings;
        Ok(Self {
            resolution,
            target,
            encoder: start_encoder(resolution, target)?,
            fresh: true,
            outdated: false,
            last_pts: None,
            output: Vec::new(),
        })
    }

    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), LibraryError> {
        self.output.clear();
        self.target = target;
        self.outdated = true;
        Ok(())
    }

    fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        key_frame: bool,
    ) -> Result<Option<FrameInfo>, LibraryError> {
        self.output.clear();
        if self.outdated || (key_frame && !self.fresh) {
            self.rebuild()?;
        }
        let pts = i64::try_from(time.start.as_millis()).expect("an encoder runs for less than 292 million years");
        let pts = self.last_pts.map_or(pts, |last| pts.max(last + 1));
        self.last_pts = Some(pts);
        let packets = self.encoder.0.encode(pts, picture.data());
        let mut key_frame = false;
        for packet in packets.map_err(|error| call_error("encoding", &error))? {
            key_frame |= packet.key;
            self.output.extend_from_slice(packet.data);
        }
        if self.output.is_empty() {
            return Ok(None);
        }
        self.fresh = false;
        Ok(Some(FrameInfo { key_frame, quantizer: None, place: LayerPlace::BASE }))
    }

    fn output(&self) -> &[u8] {
        &self.output
    }
}

fn start_encoder(resolution: Resolution, target: Bitrate) -> Result<SendEncoder, LibraryError> {
    let config = Config {
        width: resolution.width() as c_uint,
        height: resolution.height() as c_uint,
        timebase: [1, 1_000],
        bitrate: c_uint::try_from(target.as_kbps()).expect("a legal target is far below 2^32 kb/s"),
        codec: VideoCodecId::VP8,
    };
    Encoder::new(config).map(SendEncoder).map_err(|error| call_error("initialising", &error))
}

fn call_error(operation: &'static str, error: &vpx_encode::Error) -> LibraryError {
    LibraryError { operation, detail: error.to_string() }
}
