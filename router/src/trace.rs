use crate::{ConsumerId, Layers, ProducerKey};

/// Something that happened to an object that is being traced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trace {
    /// A key frame began.
    KeyFrame {
        /// Of which producer.
        producer: ProducerKey,
        /// Of which of its layers.
        layer: u8,
    },
    /// A key frame is asked for upstream; not told again until one has begun, however often it is asked for.
    KeyFrameRequested {
        /// Of which producer.
        producer: ProducerKey,
        /// Of which of its layers.
        layer: u8,
    },
    /// A viewer asked for a key frame, by PLI or FIR.
    Pli {
        /// Over which consumer.
        consumer: ConsumerId,
    },
    /// A viewer asked for lost packets.
    Nack {
        /// Over which consumer.
        consumer: ConsumerId,
        /// How many.
        packets: u32,
    },
    /// A consumer went over to other layers.
    LayerSwitch {
        /// Which.
        consumer: ConsumerId,
        /// From.
        from: Option<Layers>,
        /// To.
        to: Option<Layers>,
    },
}
