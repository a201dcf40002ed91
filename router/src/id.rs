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
    /// One stream that enters the router. Unique in the process.
    ProducerId,
    "producer"
);
id!(
    /// One viewer's connection. Unique in the process.
    TransportId,
    "transport"
);
id!(
    /// One stream that leaves the router to one viewer. Unique in the process.
    ConsumerId,
    "consumer"
);
