//! Pictures made smaller, for the lower spatial layers and for a track that has stepped down.

use std::sync::Arc;

#[cfg(not(lenscast_loom))]
use lenscast_capture::Scaler;
use lenscast_media::{Picture, PicturePool, Resolution};

/// Makes pictures of one size at a time, out of memory that it uses again.
#[derive(Debug, Default)]
pub(crate) struct Scaling {
    #[cfg(not(lenscast_loom))]
    scaler: Option<Scaler>,
    pool: PicturePool,
}

impl Scaling {
    /// `picture` in this size; itself if it has it already.
    pub(crate) fn scale(&mut self, picture: &Arc<Picture>, to: Resolution) -> Arc<Picture> {
        if picture.resolution() == to {
            return Arc::clone(picture);
        }
        #[cfg(not(lenscast_loom))]
        let scaler = match &mut self.scaler {
            Some(scaler) if scaler.resolution() == to => scaler,
            scaler => scaler.insert(Scaler::new(to)),
        };
        let scaled = self.pool.fill(to, |scaled| {
            // A model looks at no pixels, and builds without the library.
            #[cfg(not(lenscast_loom))]
            scaler.scale(picture, scaled);
            #[cfg(lenscast_loom)]
            let _ = scaled;
            Ok::<_, std::convert::Infallible>(())
        });
        match scaled {
            Ok(scaled) => scaled,
            Err(never) => match never {},
        }
    }
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_the_right_size_is_not_copied_and_another_is_scaled() {
        let size = |side| Resolution::new(side, side).unwrap();
        let mut bright = Picture::black(size(64));
        bright.planes_mut().y.fill(200);
        let picture = Arc::new(bright);
        let mut scaling = Scaling::default();
        assert!(Arc::ptr_eq(&scaling.scale(&picture, size(64)), &picture));
        for side in [32, 16, 32] {
            let scaled = scaling.scale(&picture, size(side));
            assert_eq!(scaled.resolution(), size(side));
            assert!(scaled.planes().y.iter().all(|&luma| luma == 200));
        }
    }
}
