use std::fmt;

/// Which of a producer's layers: the size of the picture, and how many of the frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Layers {
    /// The spatial layer, 0 for the smallest.
    pub spatial: u8,
    /// The highest temporal layer, 0 for the base.
    pub temporal: u8,
}

impl Layers {
    /// As many as there are.
    pub const HIGHEST: Self = Self { spatial: u8::MAX, temporal: u8::MAX };
}

impl fmt::Display for Layers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "layer {}.{}", self.spatial, self.temporal)
    }
}

/// How much a consumer matters beside the others of its transport: 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

impl Priority {
    /// What a consumer has that nobody spoke for.
    pub const LOWEST: Self = Self(1);

    /// `None` for 0.
    #[must_use]
    pub const fn new(value: u8) -> Option<Self> {
        if value == 0 { None } else { Some(Self(value)) }
    }

    /// The number.
    #[must_use]
    pub const fn value(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::LOWEST
    }
}
