//! Uncompressed camera formats to I420.
//!
//! What a camera calls YUYV or NV12 is limited-range BT.601 (USB Video Class 1.5, payload "Uncompressed" §2.3: the colour
//! matching default), which is what a [`Picture`] holds: samples are rearranged, colours are not touched.
//!
//! Not by the crate `yuv`: of two rows' chroma its `yuyv422_to_yuv420` (0.8.20) takes the lower where it uses vector
//! instructions and the upper where it does not, and averages nowhere.

use lenscast_media::Picture;

use crate::DecodeFrameError;

/// Fills `picture` from packed 4:2:2 (`Y0 U Y1 V`), rows `stride` bytes apart. Chroma of two rows is averaged.
///
/// # Errors
///
/// [`DecodeFrameError::Short`] if `data` ends before the last pixel.
pub fn yuyv_to_i420(data: &[u8], stride: usize, picture: &mut Picture) -> Result<(), DecodeFrameError> {
    let resolution = picture.resolution();
    let (width, height) = (resolution.width() as usize, resolution.height() as usize);
    let row = 2 * width;
    let stride = stride.max(row);
    let data = whole(data, stride * (height - 1) + row)?;
    let planes = picture.planes_mut();
    let chroma = planes.u.chunks_exact_mut(width / 2).zip(planes.v.chunks_exact_mut(width / 2));
    let luma = planes.y.chunks_exact_mut(2 * width);
    for ((luma, (u, v)), rows) in luma.zip(chroma).zip(data.chunks(2 * stride)) {
        let (upper_luma, lower_luma) = luma.split_at_mut(width);
        let (upper, lower) = (rows[..row].as_chunks::<4>().0, rows[stride..stride + row].as_chunks::<4>().0);
        let lumas = upper_luma.as_chunks_mut::<2>().0.iter_mut().zip(lower_luma.as_chunks_mut::<2>().0);
        for (((above, below), (upper, lower)), (u, v)) in lumas.zip(upper.iter().zip(lower)).zip(u.iter_mut().zip(v)) {
            *above = [upper[0], upper[2]];
            *below = [lower[0], lower[2]];
            *u = upper[1].midpoint(lower[1]);
            *v = upper[3].midpoint(lower[3]);
        }
    }
    Ok(())
}

/// Fills `picture` from 4:2:0 in two planes, luma and then `U V` pairs, rows of both `stride` bytes apart.
///
/// # Errors
///
/// [`DecodeFrameError::Short`] if `data` ends before the last pixel.
pub fn nv12_to_i420(data: &[u8], stride: usize, picture: &mut Picture) -> Result<(), DecodeFrameError> {
    let resolution = picture.resolution();
    let (width, height) = (resolution.width() as usize, resolution.height() as usize);
    let stride = stride.max(width);
    let data = whole(data, stride * (height + height / 2 - 1) + width)?;
    let (luma, chroma) = data.split_at(stride * height);
    let planes = picture.planes_mut();
    for (row, from) in planes.y.chunks_exact_mut(width).zip(luma.chunks(stride)) {
        row.copy_from_slice(&from[..width]);
    }
    let rows = planes.u.chunks_exact_mut(width / 2).zip(planes.v.chunks_exact_mut(width / 2));
    for ((u, v), from) in rows.zip(chroma.chunks(stride)) {
        for ((u, v), pair) in u.iter_mut().zip(v).zip(from.chunks_exact(2)) {
            (*u, *v) = (pair[0], pair[1]);
        }
    }
    Ok(())
}

fn whole(data: &[u8], need: usize) -> Result<&[u8], DecodeFrameError> {
    data.get(..need).ok_or(DecodeFrameError::Short { got: data.len(), need })
}

#[cfg(test)]
mod tests {
    use lenscast_media::Resolution;
    use proptest::prelude::*;

    use super::*;

    fn picture(width: u32, height: u32) -> Picture {
        Picture::black(Resolution::new(width, height).unwrap())
    }

    fn sizes() -> impl Strategy<Value = (u32, u32, usize)> {
        (8_u32..80, 8_u32..60, 0_usize..70).prop_map(|(width, height, padding)| (2 * width, 2 * height, padding))
    }

    fn sample(at: usize) -> u8 {
        (at * 31 + at / 256 * 7) as u8
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn nv12_is_rearranged_and_nothing_else((width, height, padding) in sizes()) {
            let stride = width as usize + padding;
            let data: Vec<u8> = (0..stride * height as usize * 3 / 2).map(sample).collect();
            let mut picture = picture(width, height);
            nv12_to_i420(&data, stride, &mut picture).unwrap();
            let planes = picture.planes();
            let (width, height) = (width as usize, height as usize);
            for y in 0..height {
                for x in 0..width {
                    prop_assert_eq!(planes.y[y * width + x], data[y * stride + x]);
                    let chroma = stride * (height + y / 2) + x / 2 * 2;
                    prop_assert_eq!(planes.u[y / 2 * (width / 2) + x / 2], data[chroma]);
                    prop_assert_eq!(planes.v[y / 2 * (width / 2) + x / 2], data[chroma + 1]);
                }
            }
        }

        #[test]
        fn yuyv_keeps_luma_and_averages_chroma_of_two_rows((width, height, padding) in sizes()) {
            let stride = 2 * width as usize + padding;
            let data: Vec<u8> = (0..stride * height as usize).map(sample).collect();
            let mut picture = picture(width, height);
            yuyv_to_i420(&data, stride, &mut picture).unwrap();
            let planes = picture.planes();
            let (width, height) = (width as usize, height as usize);
            for y in 0..height {
                for x in 0..width {
                    prop_assert_eq!(planes.y[y * width + x], data[y * stride + 2 * x]);
                    for (plane, offset) in [(planes.u, 1), (planes.v, 3)] {
                        let above = data[y / 2 * 2 * stride + x / 2 * 4 + offset];
                        let below = data[(y / 2 * 2 + 1) * stride + x / 2 * 4 + offset];
                        let sum = u16::from(above) + u16::from(below);
                        prop_assert_eq!(u16::from(plane[y / 2 * (width / 2) + x / 2]), sum / 2);
                    }
                }
            }
        }

        #[test]
        fn a_frame_that_lacks_a_byte_is_short((width, height, padding) in sizes(), lacking in 1_usize..500) {
            let mut picture = picture(width, height);
            let (width, height) = (width as usize, height as usize);
            let yuyv = (2 * width + padding) * (height - 1) + 2 * width;
            let nv12 = (width + padding) * (height * 3 / 2 - 1) + width;
            let data = vec![100; yuyv.max(nv12)];
            prop_assert!(yuyv_to_i420(&data[..yuyv], 2 * width + padding, &mut picture).is_ok());
            prop_assert!(nv12_to_i420(&data[..nv12], width + padding, &mut picture).is_ok());
            let got = yuyv.saturating_sub(lacking);
            prop_assert_eq!(
                yuyv_to_i420(&data[..got], 2 * width + padding, &mut picture),
                Err(DecodeFrameError::Short { got, need: yuyv })
            );
            let got = nv12.saturating_sub(lacking);
            prop_assert_eq!(
                nv12_to_i420(&data[..got], width + padding, &mut picture),
                Err(DecodeFrameError::Short { got, need: nv12 })
            );
        }
    }
}
