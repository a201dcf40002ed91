use std::fmt;

/// A set of a stream's spatial layers, 0 for the smallest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct LayerSet(u8);

impl LayerSet {
    /// The most layers a stream can have.
    pub const MAX_LAYERS: u8 = 8;
    /// No layer.
    pub const EMPTY: Self = Self(0);

    /// The lowest `count` layers; [`LayerSet::MAX_LAYERS`] at most.
    #[must_use]
    pub const fn all(count: u8) -> Self {
        if count >= Self::MAX_LAYERS { Self(u8::MAX) } else { Self((1 << count) - 1) }
    }

    /// One layer; none if there can be no such layer.
    #[must_use]
    pub const fn only(layer: u8) -> Self {
        Self::EMPTY.with(layer)
    }

    /// From a bit for each layer.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// A bit for each layer.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// True if no layer is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many layers are in it.
    #[must_use]
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// True if `layer` is in it.
    #[must_use]
    pub const fn contains(self, layer: u8) -> bool {
        self.0 & Self::only_bits(layer) != 0
    }

    /// With `layer` too.
    #[must_use]
    pub const fn with(self, layer: u8) -> Self {
        Self(self.0 | Self::only_bits(layer))
    }

    /// Without `layer`.
    #[must_use]
    pub const fn without(self, layer: u8) -> Self {
        Self(self.0 & !Self::only_bits(layer))
    }

    /// What is in either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// What is in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// What is in this but not in `other`.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The highest layer in it that is not above `layer`.
    #[must_use]
    pub const fn highest_at_most(self, layer: u8) -> Option<u8> {
        let bits = self.0 & Self::all(layer.saturating_add(1)).0;
        if bits == 0 { None } else { Some(bits.ilog2() as u8) }
    }

    /// The layers in it, the smallest first.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..Self::MAX_LAYERS).filter(move |layer| self.contains(*layer))
    }

    const fn only_bits(layer: u8) -> u8 {
        if layer < Self::MAX_LAYERS { 1 << layer } else { 0 }
    }
}

impl FromIterator<u8> for LayerSet {
    fn from_iter<T: IntoIterator<Item = u8>>(layers: T) -> Self {
        layers.into_iter().fold(Self::EMPTY, Self::with)
    }
}

impl fmt::Display for LayerSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_highest_layer_not_above_another() {
        let set = LayerSet::only(0).with(2);
        assert_eq!([0, 1, 2, 9, 255].map(|layer| set.highest_at_most(layer)), [0, 0, 2, 2, 2].map(Some));
        assert_eq!(LayerSet::only(2).highest_at_most(1), None);
        assert_eq!(LayerSet::EMPTY.highest_at_most(255), None);
    }

    #[test]
    fn layers_that_cannot_be_are_in_no_set() {
        assert_eq!(LayerSet::EMPTY.with(8), LayerSet::EMPTY);
        assert!(!LayerSet::all(255).contains(8));
        assert_eq!((LayerSet::all(0), LayerSet::all(3), LayerSet::all(8).len()), (LayerSet::EMPTY, LayerSet(7), 8));
    }

    #[test]
    fn a_set_is_what_was_put_in_and_not_taken_out() {
        let set: LayerSet = [3, 1].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [1, 3]);
        assert_eq!(set.without(3).union(LayerSet::only(0)), LayerSet::all(2));
        assert_eq!(set.difference(LayerSet::only(1)).intersection(LayerSet::all(8)).to_string(), "{3}");
    }
}
