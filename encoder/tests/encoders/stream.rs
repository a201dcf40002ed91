//! An encoder that is fed frame by frame, with its clock.

use std::time::Duration;

use lenscast_encoder::{Backend, EncodeError, EncoderSettings, FrameTiming, TemporalLayers, VideoEncoder, build};
use lenscast_media::{Bitrate, Picture, Resolution};

/// The backends that change their rate and make key frames in place.
pub(crate) const IN_PLACE: [Backend; 3] = [Backend::Vp8, Backend::Vp9, Backend::H264];

pub(crate) struct Stream {
    pub(crate) encoder: Box<dyn VideoEncoder>,
    /// Capture time of the next frame.
    pub(crate) now: Duration,
}

/// A copy of an encoded frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Coded {
    pub(crate) data: Vec<u8>,
    pub(crate) key_frame: bool,
    pub(crate) quantizer: Option<u8>,
    pub(crate) temporal_layer: u8,
    pub(crate) layer_sync: bool,
}

pub(crate) fn size(width: u32, height: u32) -> Resolution {
    Resolution::new(width, height).unwrap()
}

impl Stream {
    pub(crate) fn new(backend: Backend, resolution: Resolution, framerate: f64, kbps: u64) -> Self {
        Self::layered(backend, resolution, framerate, kbps, TemporalLayers::One)
    }

    pub(crate) fn layered(
        backend: Backend,
        resolution: Resolution,
        framerate: f64,
        kbps: u64,
        temporal_layers: TemporalLayers,
    ) -> Self {
        let bitrate = Bitrate::from_kbps(kbps);
        let encoder = build(&EncoderSettings { backend, resolution, framerate, bitrate, temporal_layers }).unwrap();
        Self { encoder, now: Duration::ZERO }
    }

    /// The next frame, one nominal interval after the last.
    pub(crate) fn encode(&mut self, picture: &Picture, key_frame: bool) -> Option<Coded> {
        let step = Duration::from_secs_f64(1.0 / self.encoder.settings().framerate);
        self.encode_after(picture, key_frame, step).unwrap()
    }

    /// The next frame; the one after it is to be captured `step` later.
    pub(crate) fn encode_after(
        &mut self,
        picture: &Picture,
        key_frame: bool,
        step: Duration,
    ) -> Result<Option<Coded>, EncodeError> {
        let timing = FrameTiming { timestamp: self.now, duration: step };
        self.now += step;
        let settings = *self.encoder.settings();
        let frame = self.encoder.encode(picture, timing, key_frame)?;
        Ok(frame.map(|frame| {
            assert_eq!((frame.codec, frame.resolution), (settings.backend.codec(), settings.resolution));
            assert!(
                frame.temporal_layer < settings.temporal_layers.count()
                    && !(frame.key_frame && frame.temporal_layer > 0)
            );
            assert!(!frame.data.is_empty());
            Coded {
                data: frame.data.to_vec(),
                key_frame: frame.key_frame,
                quantizer: frame.quantizer,
                temporal_layer: frame.temporal_layer,
                layer_sync: frame.layer_sync,
            }
        }))
    }

    pub(crate) fn set_kbps(&mut self, kbps: u64) {
        self.encoder.set_bitrate(Bitrate::from_kbps(kbps)).unwrap();
        assert_eq!(self.encoder.settings().bitrate, Bitrate::from_kbps(kbps));
    }
}
