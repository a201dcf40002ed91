//! What is asked of the transport about streams that come in, in one place.

use lenscast_media::{Codec, MediaCodec, Resolution};
use lenscast_router::ProducerId;
use lenscast_transport::{PublishedProducer, TransportServer, TransportStats};

use crate::config::RtpConfig;
use crate::stream::Stream;

/// The tracks of one stream: its video, and its audio if it has any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tracks {
    /// The video's producer.
    pub video: ProducerId,
    /// The video's codec.
    pub codec: Codec,
    /// Spatial layers that it may have.
    pub layers: u8,
    /// The audio's producer.
    pub audio: Option<ProducerId>,
}

/// One spatial layer of what comes in.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct LayerState {
    /// True while something comes of it.
    pub sending: bool,
    /// Packets received.
    pub packets: u64,
    /// Payload bytes of those.
    pub bytes: u64,
    /// Frames received.
    pub frames: u64,
    /// Key frames among them.
    pub key_frames: u64,
    /// Size of the last frame.
    pub resolution: Option<Resolution>,
}

impl Tracks {
    /// The first video and the first audio; `None` without video.
    #[must_use]
    pub fn of(producers: &[PublishedProducer]) -> Option<Self> {
        let (video, codec) = producers.iter().find_map(|producer| match producer.codec {
            MediaCodec::Video(codec) => Some((producer, codec)),
            MediaCodec::Opus => None,
        })?;
        let audio = producers.iter().find(|producer| producer.codec == MediaCodec::Opus);
        Some(Self { video: video.id, codec, layers: video.layers, audio: audio.map(|audio| audio.id) })
    }

    /// All its producers, the video's first.
    #[must_use]
    pub fn producers(&self) -> Vec<ProducerId> {
        std::iter::once(self.video).chain(self.audio).collect()
    }
}

/// The spatial layers of a producer, the smallest first, as its own worker counts them; the others mirror it.
#[must_use]
pub fn layers_of(stats: &TransportStats, tracks: &Tracks) -> Vec<LayerState> {
    let mut best = LayerState::default();
    for worker in &stats.workers {
        for (_, stats) in worker.producers.iter().filter(|(producer, _)| *producer == tracks.video) {
            if stats.packets >= best.packets {
                best = LayerState {
                    sending: stats.packets > 0,
                    packets: stats.packets,
                    bytes: stats.bytes,
                    frames: stats.frames,
                    key_frames: stats.key_frames,
                    resolution: stats.resolution,
                };
            }
        }
    }
    vec![best]
}

/// Holds up producers at their source, or lets them go on: viewers are sent nothing, and a key frame first afterwards.
/// False if the transport cannot.
pub async fn set_paused(_transport: &TransportServer, _producers: &[ProducerId], _paused: bool) -> bool {
    false
}

/// Listens for plain RTP of a stream.
///
/// # Errors
///
/// Why it cannot be received.
pub async fn listen(_transport: &TransportServer, _stream: &Stream, _rtp: &RtpConfig) -> Result<(), String> {
    Err("plain RTP is not there yet".to_owned())
}
