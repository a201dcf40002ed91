//! What is asked of the transport about streams that come in, in one place.

use lenscast_media::{Codec, MediaCodec, Resolution};
use lenscast_router::ProducerId;
use lenscast_transport::{PublishedProducer, TransportServer, TransportStats};

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

/// The spatial layers of a stream's video, the smallest first, as the worker counts them that receives them; the others have
/// mirrors, which count what their viewers need.
#[must_use]
pub fn layers_of(stats: &TransportStats, tracks: &Tracks) -> Vec<LayerState> {
    let everywhere = stats.workers.iter().flat_map(|worker| &worker.producers);
    let home = everywhere.filter(|(producer, _)| *producer == tracks.video).max_by_key(|(_, stats)| stats.packets);
    let Some((_, stats)) = home else { return Vec::new() };
    let layers = (0..tracks.layers).map(|layer| {
        let counted = stats.layers.get(usize::from(layer)).copied().unwrap_or_default();
        LayerState {
            sending: stats.sending.contains(layer) && counted.packets > 0,
            packets: counted.packets,
            bytes: counted.bytes,
            frames: counted.frames,
            key_frames: counted.key_frames,
            resolution: counted.resolution,
        }
    });
    layers.collect()
}

/// Holds up producers at their source, or lets them go on: viewers are sent nothing, and a key frame first afterwards.
/// False if one
/// of them has ended, or is another machine's: only its home can.
pub async fn set_paused(transport: &TransportServer, producers: &[ProducerId], paused: bool) -> bool {
    let mut all = true;
    for producer in producers {
        all &= transport.set_producer_paused(*producer, paused).await;
    }
    all
}
