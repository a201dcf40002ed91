use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($noun, " {}"), self.0)
            }
        }
    };
}

id!(
    /// One router of a worker: the streams in it can be had by the transports in it. Unique in the process.
    RouterId,
    "router"
);
id!(
    /// One mirror that a producer's home worker feeds. Unique in the process.
    OutletId,
    "outlet"
);
id!(
    /// One stream that enters the router. Unique in the process, but that its mirrors on other routers share it.
    ProducerId,
    "producer"
);
id!(
    /// One connection: a viewer's, a publisher's, or a local source's. Unique in the process.
    TransportId,
    "transport"
);
id!(
    /// One stream that leaves the router to one viewer. Unique in the process.
    ConsumerId,
    "consumer"
);

/// A producer on one router. Its mirrors on other routers have the same [`ProducerId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProducerKey {
    /// Where it is.
    pub router: RouterId,
    /// Which it is.
    pub producer: ProducerId,
}

impl fmt::Display for ProducerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on {}", self.producer, self.router)
    }
}

/// A transport's place in its worker: small numbers, so that a driver can keep its side of them in a vector. A place is
/// taken again once its transport is closed; nothing is sent to the old one after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransportSlot(pub u32);

impl TransportSlot {
    /// The place as an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}
