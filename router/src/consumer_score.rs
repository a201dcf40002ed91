use crate::ProducerParameters;
use crate::score::Score;

/// How well a stream gets through, on its way here and from here to one peer (mediasoup `ConsumerScore`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerScore {
    /// From here to the peer, by its receiver reports; 10 before the first.
    pub own: Score,
    /// From the source to here, of the spatial layer that is forwarded; 0 while none is.
    pub producer: Score,
    /// The same of each spatial layer.
    pub producer_layers: LayerScores,
}

/// How well each spatial layer of a producer gets here, the smallest first.
///
/// **Deviation from mediasoup.** What is not received here by RTP, from a source in this process or by a pipe, loses nothing on
/// the way that could be measured here: it is 10 for layers that can be had, and 0 for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerScores {
    scores: [Score; ProducerParameters::MAX_ENCODINGS],
    layers: u8,
}

impl ConsumerScore {
    pub(crate) fn new(own: Score, forwarded: Option<u8>, producer_layers: LayerScores) -> Self {
        let producer = forwarded.and_then(|layer| producer_layers.as_slice().get(usize::from(layer)).copied());
        Self { own, producer: producer.unwrap_or(Score::NONE), producer_layers }
    }
}

impl LayerScores {
    /// One for each layer.
    #[must_use]
    pub fn as_slice(&self) -> &[Score] {
        &self.scores[..usize::from(self.layers)]
    }
}

/// Of more scores than layers are possible, the first.
impl FromIterator<Score> for LayerScores {
    fn from_iter<I: IntoIterator<Item = Score>>(scores: I) -> Self {
        let mut all = Self { scores: [Score::NONE; ProducerParameters::MAX_ENCODINGS], layers: 0 };
        for (place, score) in all.scores.iter_mut().zip(scores) {
            *place = score;
            all.layers += 1;
        }
        all
    }
}
