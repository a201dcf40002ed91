use std::sync::Arc;

use crate::Resolution;

/// The pixels of one frame: I420 (planar, 8 bits, chroma halved both ways), planes packed without padding in the order
/// Y, U, V. Colours are BT.601 limited range, what every WebRTC receiver assumes when told nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    resolution: Resolution,
    data: Vec<u8>,
}

/// Read access to the planes of a [`Picture`]. A row of `y` is `width` bytes, a row of `u` or `v` half of it.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)]
pub struct Planes<'a> {
    pub y: &'a [u8],
    pub u: &'a [u8],
    pub v: &'a [u8],
}

/// Write access to the planes of a [`Picture`].
#[derive(Debug)]
#[allow(missing_docs)]
pub struct PlanesMut<'a> {
    pub y: &'a mut [u8],
    pub u: &'a mut [u8],
    pub v: &'a mut [u8],
}

impl Picture {
    /// A black picture.
    #[must_use]
    pub fn black(resolution: Resolution) -> Self {
        let mut picture = Self { resolution, data: vec![128; resolution.i420_len()] };
        picture.planes_mut().y.fill(16);
        picture
    }

    /// The picture's size.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        self.resolution
    }

    /// All three planes, one after the other; `resolution().i420_len()` bytes.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// All three planes, one after the other, for a source that reads I420 from a stream.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The planes.
    #[must_use]
    pub fn planes(&self) -> Planes<'_> {
        let luma = self.resolution.pixels();
        let (y, chroma) = self.data.split_at(luma);
        let (u, v) = chroma.split_at(luma / 4);
        Planes { y, u, v }
    }

    /// The planes, to draw on.
    pub fn planes_mut(&mut self) -> PlanesMut<'_> {
        let luma = self.resolution.pixels();
        let (y, chroma) = self.data.split_at_mut(luma);
        let (u, v) = chroma.split_at_mut(luma / 4);
        PlanesMut { y, u, v }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Picture").field("resolution", &self.resolution).finish_non_exhaustive()
    }
}

/// Hands out pictures and takes them back, so that a running source allocates nothing.
///
/// A picture is free again once every [`Arc`] of it that left the pool is dropped. The pool keeps at most
/// [`PicturePool::CAPACITY`]; a source that outruns its readers gets fresh pictures beyond that, which are not kept.
#[derive(Debug, Default)]
pub struct PicturePool {
    pictures: Vec<Arc<Picture>>,
}

impl PicturePool {
    /// One being filled, one in the frame buffer, one being encoded, and one to spare.
    pub const CAPACITY: usize = 4;

    /// An empty pool.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives `fill` a picture of this size, with whatever it last held, and returns it as `fill` left it.
    ///
    /// # Errors
    ///
    /// Those of `fill`; the picture is then free again.
    pub fn fill<E>(
        &mut self,
        resolution: Resolution,
        fill: impl FnOnce(&mut Picture) -> Result<(), E>,
    ) -> Result<Arc<Picture>, E> {
        self.pictures.retain(|picture| picture.resolution == resolution);
        let free = self.pictures.iter_mut().position(|picture| Arc::get_mut(picture).is_some());
        let index = free.unwrap_or_else(|| {
            if self.pictures.len() == Self::CAPACITY {
                self.pictures.remove(0);
            }
            self.pictures.push(Arc::new(Picture::black(resolution)));
            self.pictures.len() - 1
        });
        let picture = &mut self.pictures[index];
        fill(Arc::get_mut(picture).expect("a free or new picture has no other owner"))?;
        Ok(Arc::clone(picture))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    fn size(width: u32, height: u32) -> Resolution {
        Resolution::new(width, height).unwrap()
    }

    fn take(pool: &mut PicturePool, resolution: Resolution) -> Arc<Picture> {
        pool.fill(resolution, |_| Ok::<_, Infallible>(())).unwrap()
    }

    #[test]
    fn planes_cover_the_picture_without_overlap() {
        let picture = Picture::black(size(64, 48));
        let planes = picture.planes();
        assert_eq!((planes.y.len(), planes.u.len(), planes.v.len()), (64 * 48, 32 * 24, 32 * 24));
        assert!(planes.y.iter().all(|&luma| luma == 16) && planes.u.iter().all(|&chroma| chroma == 128));
    }

    #[test]
    fn a_dropped_picture_is_used_again_and_a_held_one_is_not() {
        let mut pool = PicturePool::new();
        let first = take(&mut pool, size(64, 48));
        let address = Arc::as_ptr(&first);
        let second = take(&mut pool, size(64, 48));
        assert_ne!(Arc::as_ptr(&second), address);
        drop(first);
        assert_eq!(Arc::as_ptr(&take(&mut pool, size(64, 48))), address);
    }

    #[test]
    fn the_pool_stays_bounded_when_nobody_gives_back_and_when_the_size_changes() {
        let mut pool = PicturePool::new();
        let held: Vec<_> = (0..20).map(|_| take(&mut pool, size(64, 48))).collect();
        assert_eq!(pool.pictures.len(), PicturePool::CAPACITY);
        let other = take(&mut pool, size(32, 32));
        assert_eq!((pool.pictures.len(), other.resolution()), (1, size(32, 32)));
        drop(held);
    }
}
