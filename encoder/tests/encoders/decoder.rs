//! Decoders that lenscast did not write.

use std::mem::MaybeUninit;
use std::{ptr, slice};

use lenscast_media::{Codec, Picture, Resolution};
use openh264::formats::YUVSource;
use vpx_sys::{
    VPX_DECODER_ABI_VERSION, vpx_codec_ctx_t, vpx_codec_dec_init_ver, vpx_codec_decode, vpx_codec_destroy,
    vpx_codec_err_t, vpx_codec_get_frame, vpx_codec_vp8_dx, vpx_codec_vp9_dx,
};

/// A decoder of one stream.
pub(crate) enum Decoder {
    Vpx(Box<vpx_codec_ctx_t>),
    H264(Box<openh264::decoder::Decoder>),
}

impl Decoder {
    pub(crate) fn new(codec: Codec) -> Self {
        let interface = match codec {
            // SAFETY: both functions only return the address of a constant.
            Codec::Vp8 => unsafe { vpx_codec_vp8_dx() },
            // SAFETY: as above.
            Codec::Vp9 => unsafe { vpx_codec_vp9_dx() },
            Codec::H264 => return Self::H264(Box::new(openh264::decoder::Decoder::new().unwrap())),
        };
        // SAFETY: all-zero is a valid `vpx_codec_ctx_t`.
        let mut context = Box::new(unsafe { MaybeUninit::<vpx_codec_ctx_t>::zeroed().assume_init() });
        // SAFETY: the pointers are valid; a null configuration means defaults.
        let result =
            unsafe { vpx_codec_dec_init_ver(&mut *context, interface, ptr::null(), 0, VPX_DECODER_ABI_VERSION as i32) };
        assert_eq!(result, vpx_codec_err_t::VPX_CODEC_OK);
        Self::Vpx(context)
    }

    /// The picture of one frame. Panics if the decoder refuses it or shows none.
    pub(crate) fn decode(&mut self, data: &[u8]) -> Picture {
        match self {
            Self::Vpx(context) => {
                // SAFETY: the context is initialised, and `data` is valid for the call.
                let result =
                    unsafe { vpx_codec_decode(&mut **context, data.as_ptr(), data.len() as u32, ptr::null_mut(), 0) };
                assert_eq!(result, vpx_codec_err_t::VPX_CODEC_OK);
                let mut iterator = ptr::null();
                // SAFETY: the context is initialised, and the iterator is null at first.
                let image = unsafe { vpx_codec_get_frame(&mut **context, &mut iterator) };
                // SAFETY: null, or an image that lives until the next call of the decoder.
                let image = unsafe { image.as_ref() }.expect("every frame shows a picture");
                let mut picture = Picture::black(Resolution::new(image.d_w, image.d_h).unwrap());
                let planes = picture.planes_mut();
                let (width, height) = (image.d_w as usize, image.d_h as usize);
                for (plane, (to, (width, height))) in [
                    (planes.y, (width, height)),
                    (planes.u, (width / 2, height / 2)),
                    (planes.v, (width / 2, height / 2)),
                ]
                .into_iter()
                .enumerate()
                {
                    let stride = image.stride[plane] as usize;
                    // SAFETY: a plane has `height` rows, `stride` apart, and the last is at least `width` long.
                    let from = unsafe { slice::from_raw_parts(image.planes[plane], stride * (height - 1) + width) };
                    copy(to, width, from, stride);
                }
                picture
            }
            Self::H264(decoder) => {
                let image = decoder.decode(data).unwrap().expect("every access unit shows a picture");
                let (width, height) = image.dimensions();
                let mut picture = Picture::black(Resolution::new(width as u32, height as u32).unwrap());
                let strides = image.strides();
                let planes = picture.planes_mut();
                copy(planes.y, width, image.y(), strides.0);
                copy(planes.u, width / 2, image.u(), strides.1);
                copy(planes.v, width / 2, image.v(), strides.2);
                picture
            }
        }
    }
}

fn copy(to: &mut [u8], width: usize, from: &[u8], stride: usize) {
    for (to, from) in to.chunks_exact_mut(width).zip(from.chunks(stride)) {
        to.copy_from_slice(&from[..width]);
    }
}

impl Drop for Decoder {
    fn drop(&mut self) {
        if let Self::Vpx(context) = self {
            // SAFETY: the context is initialised and not used again.
            unsafe { vpx_codec_destroy(&mut **context) };
        }
    }
}
