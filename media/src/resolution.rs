use std::fmt;

/// Width and height in pixels, both even and within [`Resolution::MIN_SIDE`] and [`Resolution::MAX_SIDE`].
///
/// Even, because every chroma plane of I420 is half as wide and half as high, and H.264 macroblock cropping counts in
/// pairs of pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Resolution {
    width: u32,
    height: u32,
}

impl Resolution {
    /// The smallest side in pixels: one VP8 or H.264 macroblock.
    pub const MIN_SIDE: u32 = 16;
    /// The largest side in pixels: 4K's width. Bounds what one frame can cost in memory (12.6 MB as I420, square).
    pub const MAX_SIDE: u32 = 4096;

    /// `None` unless both sides are even and within the bounds.
    #[must_use]
    pub const fn new(width: u32, height: u32) -> Option<Self> {
        if !width.is_multiple_of(2)
            || !height.is_multiple_of(2)
            || width < Self::MIN_SIDE
            || height < Self::MIN_SIDE
            || width > Self::MAX_SIDE
            || height > Self::MAX_SIDE
        {
            return None;
        }
        Some(Self { width, height })
    }

    /// In pixels.
    #[must_use]
    pub const fn width(self) -> u32 {
        self.width
    }

    /// In pixels.
    #[must_use]
    pub const fn height(self) -> u32 {
        self.height
    }

    /// Width times height.
    #[must_use]
    pub const fn pixels(self) -> usize {
        self.width as usize * self.height as usize
    }

    /// Bytes of one picture as tightly packed I420: 12 bits a pixel.
    #[must_use]
    pub const fn i420_len(self) -> usize {
        self.pixels() * 3 / 2
    }
}

impl fmt::Display for Resolution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_sides_that_are_odd_tiny_or_huge() {
        assert!(Resolution::new(1280, 720).is_some());
        for (width, height) in [(1279, 720), (1280, 721), (14, 720), (1280, 0), (4098, 720), (u32::MAX - 1, 2)] {
            assert_eq!(Resolution::new(width, height), None, "{width}x{height}");
        }
    }
}
