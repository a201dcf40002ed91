use fast_image_resize::images::{TypedCroppedImageMut, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};
use lenscast_media::{Picture, Resolution};

/// Scales pictures to one size. A picture of another shape keeps its own and gets black bars.
#[derive(Debug)]
pub struct Scaler {
    to: Resolution,
    resizer: Resizer,
    options: ResizeOptions,
}

/// Where in the target the picture lies, in pixels; all even.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    left: u32,
    top: u32,
    width: u32,
    height: u32,
}

impl Scaler {
    /// Scales to this size.
    #[must_use]
    pub fn new(to: Resolution) -> Self {
        // Averages all pixels that fall into one, so that scaling down does not flicker.
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        Self { to, resizer: Resizer::new(), options }
    }

    /// The size it scales to.
    #[must_use]
    pub const fn resolution(&self) -> Resolution {
        self.to
    }

    /// Draws `from` into `to`, which is of [`Scaler::resolution`].
    pub fn scale(&mut self, from: &Picture, to: &mut Picture) {
        let (source, target) = (from.resolution(), self.to);
        let place = Place::of(source, target);
        let bars = (place.width, place.height) != (target.width(), target.height());
        let (source_planes, planes) = (from.planes(), to.planes_mut());
        for (input, output, scale, black) in [
            (source_planes.y, planes.y, 1, 16),
            (source_planes.u, planes.u, 2, 128),
            (source_planes.v, planes.v, 2, 128),
        ] {
            if bars {
                output.fill(black);
            }
            let input = TypedImageRef::<U8>::from_buffer(source.width() / scale, source.height() / scale, input)
                .expect("a plane is as long as its sides say");
            let output = TypedImage::<U8>::from_buffer(target.width() / scale, target.height() / scale, output)
                .expect("a plane is as long as its sides say");
            let Place { left, top, width, height } = place;
            let mut output =
                TypedCroppedImageMut::new(output, left / scale, top / scale, width / scale, height / scale)
                    .expect("the place lies within the target");
            self.resizer
                .resize_typed(&input, &mut output, &self.options)
                .expect("whole pictures are never cropped outside their bounds");
        }
    }
}

impl Place {
    /// The largest place of `source`'s shape within `target`, in the middle.
    fn of(source: Resolution, target: Resolution) -> Self {
        let wide = u64::from(target.width()) * u64::from(source.height());
        let high = u64::from(target.height()) * u64::from(source.width());
        let (width, height) = if wide <= high {
            (target.width(), fitted(wide, source.width(), target.height()))
        } else {
            (fitted(high, source.height(), target.width()), target.height())
        };
        let middle = |room: u32| room / 4 * 2;
        Self { left: middle(target.width() - width), top: middle(target.height() - height), width, height }
    }
}

/// `product / divisor` to the nearest even number, from 2 to `max`.
fn fitted(product: u64, divisor: u32, max: u32) -> u32 {
    let half = (product + u64::from(divisor)) / (2 * u64::from(divisor));
    u32::try_from(2 * half).unwrap_or(max).clamp(2, max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn size(width: u32, height: u32) -> Resolution {
        Resolution::new(width, height).unwrap()
    }

    fn plain(resolution: Resolution, luma: u8, u: u8, v: u8) -> Picture {
        let mut picture = Picture::black(resolution);
        let planes = picture.planes_mut();
        planes.y.fill(luma);
        planes.u.fill(u);
        planes.v.fill(v);
        picture
    }

    #[test]
    fn a_picture_of_another_shape_gets_bars_and_keeps_its_own() {
        assert_eq!(Place::of(size(640, 480), size(1280, 720)), Place { left: 160, top: 0, width: 960, height: 720 });
        assert_eq!(Place::of(size(1920, 800), size(1280, 720)), Place { left: 0, top: 92, width: 1280, height: 534 });
        assert_eq!(Place::of(size(1920, 1080), size(1280, 720)), Place { left: 0, top: 0, width: 1280, height: 720 });
        let mut scaler = Scaler::new(size(128, 64));
        let mut picture = plain(size(128, 64), 99, 99, 99);
        scaler.scale(&plain(size(32, 32), 200, 90, 160), &mut picture);
        let planes = picture.planes();
        let row: Vec<_> = planes.y[..128].to_vec();
        assert!(row[..32].iter().chain(&row[96..]).all(|luma| *luma == 16), "bars are black: {row:?}");
        assert!(row[32..96].iter().all(|luma| *luma == 200));
        let chroma = &planes.v[..64];
        assert!(
            chroma[..16].iter().chain(&chroma[48..]).all(|v| *v == 128) && chroma[16..48].iter().all(|v| *v == 160)
        );
    }

    #[test]
    fn what_is_left_stays_left() {
        let mut from = plain(size(64, 64), 40, 128, 128);
        from.planes_mut().y.chunks_exact_mut(64).for_each(|row| row[32..].fill(220));
        let mut to = Picture::black(size(32, 32));
        Scaler::new(size(32, 32)).scale(&from, &mut to);
        let row = &to.planes().y[16 * 32..17 * 32];
        assert!(row[..14].iter().all(|luma| *luma == 40) && row[18..].iter().all(|luma| *luma == 220), "{row:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_size_goes_into_any_other(from in (8_u32..=128, 8_u32..=128), to in (8_u32..=128, 8_u32..=128)) {
            let (from, to) = (size(from.0 * 2, from.1 * 2), size(to.0 * 2, to.1 * 2));
            let place = Place::of(from, to);
            prop_assert!([place.left, place.top, place.width, place.height].iter().all(|at| at % 2 == 0));
            prop_assert!(place.width == to.width() || place.height == to.height());
            let mut picture = Picture::black(to);
            Scaler::new(to).scale(&plain(from, 100, 110, 120), &mut picture);
            let (x, y) = ((place.left + place.width / 2) as usize, (place.top + place.height / 2) as usize);
            prop_assert_eq!(picture.planes().y[y * to.width() as usize + x], 100);
        }
    }
}
