//! The part of libvpx's encoder interface that lenscast needs, made safe.
//!
//! **Invariants.** A [`Context`] is initialised from its making to its drop. [`Context::output`] borrows libvpx's own
//! memory, and the context with it, so that nothing can be called that would write there; every such call empties it
//! first.
//!
//! What it does not do: choose any setting.

#![allow(unsafe_code)]

use std::borrow::Cow;
use std::ffi::{CStr, c_int, c_ulong};
use std::mem::MaybeUninit;
use std::{ptr, slice};

use lenscast_media::Picture;
use vpx_sys::{
    VPX_DL_REALTIME, VPX_ENCODER_ABI_VERSION, VPX_FRAME_IS_KEY, vp8e_enc_control_id, vpx_codec_control_,
    vpx_codec_ctx_t, vpx_codec_cx_pkt_kind, vpx_codec_destroy, vpx_codec_enc_cfg_t, vpx_codec_enc_config_default,
    vpx_codec_enc_config_set, vpx_codec_enc_init_ver, vpx_codec_encode, vpx_codec_err_t, vpx_codec_err_to_string,
    vpx_codec_error_detail, vpx_codec_flags_t, vpx_codec_get_cx_data, vpx_codec_iface, vpx_codec_vp8_cx,
    vpx_codec_vp9_cx, vpx_enc_frame_flags_t, vpx_image_t, vpx_img_fmt, vpx_img_wrap, vpx_svc_extra_cfg_t,
    vpx_svc_layer_id_t,
};

use crate::frame_clock::FrameTime;
use crate::live_encoder::LibraryError;

/// Which of libvpx's encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Vp8,
    Vp9,
}

/// The controls that lenscast uses, all of which take an integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    CpuUsed,
    MaxIntraBitratePct,
    StaticThreshold,
    EnableAutoAltRef,
    /// Of VP8 only.
    NoiseSensitivity,
    /// Of VP8 only.
    TokenPartitions,
    /// Of VP8 only: the layer of the next frame.
    TemporalLayerId,
    /// Of VP9 only.
    Svc,
    Vp9NoiseSensitivity,
    AqMode,
    TileColumns,
    RowMt,
    FrameParallelDecoding,
}

/// A running encoder.
pub(crate) struct Context {
    /// Boxed: libvpx does not say that it keeps no pointer to it.
    raw: Box<vpx_codec_ctx_t>,
    config: vpx_codec_enc_cfg_t,
    output: Output,
    /// Holds a frame that came in several packets, as [`Output::Joined`].
    joined: Vec<u8>,
}

/// What is known of a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CodedFrame {
    pub(crate) key_frame: bool,
    pub(crate) quantizer: Option<u8>,
}

/// Where the last frame is.
#[derive(Clone, Copy)]
enum Output {
    None,
    /// In libvpx's memory, which stays as it is until the next call that gets `&mut Context`.
    Packet {
        data: *const u8,
        len: usize,
    },
    Joined,
}

// SAFETY: libvpx ties a context to no thread (it uses no thread-local state, and sets its tables up under
// `pthread_once`). All calls into one go through `&mut Context`. `output` points into memory that the context owns.
unsafe impl Send for Context {}

impl Context {
    /// Starts an encoder with libvpx's defaults as `configure` changed them.
    pub(crate) fn new(
        algorithm: Algorithm,
        configure: impl FnOnce(&mut vpx_codec_enc_cfg_t),
    ) -> Result<Self, LibraryError> {
        Self::with_flags(algorithm, 0, configure)
    }

    fn with_flags(
        algorithm: Algorithm,
        flags: vpx_codec_flags_t,
        configure: impl FnOnce(&mut vpx_codec_enc_cfg_t),
    ) -> Result<Self, LibraryError> {
        let interface = algorithm.interface();
        let mut config = MaybeUninit::<vpx_codec_enc_cfg_t>::zeroed();
        // SAFETY: `interface` is one of libvpx's own, and `config` is writable memory of the right type.
        let result = unsafe { vpx_codec_enc_config_default(interface, config.as_mut_ptr(), 0) };
        check(result, "reading the default configuration", None)?;
        // SAFETY: on success libvpx has written the whole structure.
        let mut config = unsafe { config.assume_init() };
        configure(&mut config);

        // SAFETY: all-zero is a valid `vpx_codec_ctx_t`: pointers may be null, and `err` 0 is `VPX_CODEC_OK`.
        let mut raw = Box::new(unsafe { MaybeUninit::<vpx_codec_ctx_t>::zeroed().assume_init() });
        let version = VPX_ENCODER_ABI_VERSION as c_int;
        // SAFETY: the three pointers are valid for the call; libvpx copies the configuration. A failed initialisation
        // has released everything itself.
        let result = unsafe { vpx_codec_enc_init_ver(&mut *raw, interface, &config, flags, version) };
        check(result, "initialising", Some(&mut raw))?;
        Ok(Self { raw, config, output: Output::None, joined: Vec::new() })
    }

    /// The configuration that holds now.
    pub(crate) fn config(&self) -> &vpx_codec_enc_cfg_t {
        &self.config
    }

    /// The last frame, if nothing was called since it came out.
    pub(crate) fn output(&self) -> &[u8] {
        match self.output {
            Output::None => &[],
            // SAFETY: libvpx reported `len` initialised bytes there, valid until its next call on this context. Every
            // method that makes one takes `&mut self` and resets `output` first, and the slice borrows `self`.
            Output::Packet { data, len } => unsafe { slice::from_raw_parts(data, len) },
            Output::Joined => &self.joined,
        }
    }

    /// Sets one of the controls.
    pub(crate) fn set(&mut self, control: Control, value: c_int) -> Result<(), LibraryError> {
        self.output = Output::None;
        // SAFETY: the context is initialised, and libvpx reads one integer: all of `Control` take an `int` or an
        // `unsigned int` (`VPX_CTRL_USE_TYPE` in `vpx/vp8cx.h`), which are passed alike.
        let result = unsafe { vpx_codec_control_(&mut *self.raw, control.id() as c_int, value) };
        check(result, control.operation(), Some(&mut self.raw))
    }

    /// Changes the configuration between two frames. After an error the old one still holds.
    pub(crate) fn reconfigure(&mut self, change: impl FnOnce(&mut vpx_codec_enc_cfg_t)) -> Result<(), LibraryError> {
        self.output = Output::None;
        let mut config = self.config;
        change(&mut config);
        // SAFETY: the context is initialised and `config` is valid for the call; libvpx copies it.
        let result = unsafe { vpx_codec_enc_config_set(&mut *self.raw, &config) };
        check(result, "changing the configuration", Some(&mut self.raw))?;
        self.config = config;
        Ok(())
    }

    /// Tells VP9 that the next frame is of this temporal layer.
    pub(crate) fn set_layer_of_next_frame(&mut self, layer: u8) -> Result<(), LibraryError> {
        self.output = Output::None;
        let mut id = vpx_svc_layer_id_t {
            spatial_layer_id: 0,
            temporal_layer_id: layer.into(),
            temporal_layer_id_per_spatial: [layer.into(); 5],
        };
        let control = vp8e_enc_control_id::VP9E_SET_SVC_LAYER_ID as c_int;
        // SAFETY: the context is initialised. This control takes a `vpx_svc_layer_id_t *`, which libvpx only reads.
        let result = unsafe { vpx_codec_control_(&mut *self.raw, control, ptr::from_mut(&mut id)) };
        check(result, "choosing the frame's layer", Some(&mut self.raw))
    }

    /// Tells VP9 that its one spatial layer has the size of the picture and this range of quantizers in each of its
    /// temporal layers.
    pub(crate) fn set_layer_quantizers(&mut self, least: u32, most: u32) -> Result<(), LibraryError> {
        self.output = Output::None;
        // SAFETY: all-zero is a valid `vpx_svc_extra_cfg_t`: it holds integers only.
        let mut layers: vpx_svc_extra_cfg_t = unsafe { MaybeUninit::zeroed().assume_init() };
        layers.min_quantizers = [least as c_int; 12];
        layers.max_quantizers = [most as c_int; 12];
        layers.scaling_factor_num = [1; 12];
        layers.scaling_factor_den = [1; 12];
        let control = vp8e_enc_control_id::VP9E_SET_SVC_PARAMETERS as c_int;
        // SAFETY: the context is initialised. This control takes a `vpx_svc_extra_cfg_t *`, which libvpx only reads.
        let result = unsafe { vpx_codec_control_(&mut *self.raw, control, ptr::from_mut(&mut layers)) };
        check(result, "configuring the layers", Some(&mut self.raw))
    }

    /// Encodes one picture into [`Context::output`], with `VPX_EFLAG_*` and `VP8_EFLAG_*`. `None` if libvpx dropped it.
    pub(crate) fn encode(
        &mut self,
        picture: &Picture,
        time: FrameTime,
        flags: u32,
    ) -> Result<Option<CodedFrame>, LibraryError> {
        self.output = Output::None;
        let image = wrap(picture)?;
        let start = i64::try_from(time.start.as_micros()).expect("an encoder runs for less than 292,000 years");
        let duration = c_ulong::try_from(time.duration.as_micros()).expect("a frame lasts a second at most");
        let flags = vpx_enc_frame_flags_t::from(flags);
        let deadline = c_ulong::from(VPX_DL_REALTIME);
        // SAFETY: the context is initialised. `image` points at the picture's planes, which outlive the call; libvpx
        // only reads them, and copies what it needs later.
        let result = unsafe { vpx_codec_encode(&mut *self.raw, &image, start, duration, flags, deadline) };
        check(result, "encoding", Some(&mut self.raw))?;
        let Some(key_frame) = self.collect_packets() else { return Ok(None) };
        Ok(Some(CodedFrame { key_frame, quantizer: u8::try_from(self.last_quantizer()?).ok() }))
    }

    /// Finds what `vpx_codec_encode` made, and says whether it is a key frame. `None` if it made nothing.
    fn collect_packets(&mut self) -> Option<bool> {
        let mut is_key_frame = false;
        let mut iterator = ptr::null();
        loop {
            // SAFETY: the context is initialised, and `iterator` is null or as the last call left it.
            let packet = unsafe { vpx_codec_get_cx_data(&mut *self.raw, &mut iterator) };
            // SAFETY: null, or a packet that is valid until the next call of `vpx_codec_encode`.
            let Some(packet) = (unsafe { packet.as_ref() }) else { break };
            if packet.kind != vpx_codec_cx_pkt_kind::VPX_CODEC_CX_FRAME_PKT {
                continue;
            }
            // SAFETY: the kind says that `frame` is the live member of the union.
            let frame = unsafe { packet.data.frame };
            if frame.sz == 0 {
                continue;
            }
            is_key_frame |= frame.flags & VPX_FRAME_IS_KEY != 0;
            match self.output {
                Output::None => self.output = Output::Packet { data: frame.buf.cast(), len: frame.sz },
                Output::Packet { data, len } => {
                    self.joined.clear();
                    // SAFETY: both packets are of this call, so both still stand.
                    self.joined.extend_from_slice(unsafe { slice::from_raw_parts(data, len) });
                    self.join(frame.buf.cast(), frame.sz);
                }
                Output::Joined => self.join(frame.buf.cast(), frame.sz),
            }
        }
        match self.output {
            Output::None => None,
            Output::Packet { .. } | Output::Joined => Some(is_key_frame),
        }
    }

    fn join(&mut self, data: *const u8, len: usize) {
        // SAFETY: only called with a packet of the call that is being collected.
        self.joined.extend_from_slice(unsafe { slice::from_raw_parts(data, len) });
        self.output = Output::Joined;
    }

    /// VP8 0–127, VP9 0–255. Leaves the output alone.
    fn last_quantizer(&mut self) -> Result<c_int, LibraryError> {
        let mut quantizer: c_int = -1;
        let control = vp8e_enc_control_id::VP8E_GET_LAST_QUANTIZER as c_int;
        // SAFETY: the context is initialised. This control takes an `int *`, and libvpx writes one `int` there.
        let result = unsafe { vpx_codec_control_(&mut *self.raw, control, ptr::from_mut(&mut quantizer)) };
        check(result, "reading the quantizer", Some(&mut self.raw))?;
        Ok(quantizer)
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is initialised and not used again. The result only ever says that it was not initialised.
        unsafe { vpx_codec_destroy(&mut *self.raw) };
    }
}

impl Algorithm {
    fn interface(self) -> *const vpx_codec_iface {
        // SAFETY: both functions only return the address of a constant.
        unsafe {
            match self {
                Self::Vp8 => vpx_codec_vp8_cx(),
                Self::Vp9 => vpx_codec_vp9_cx(),
            }
        }
    }
}

impl Control {
    const fn id(self) -> vp8e_enc_control_id {
        match self {
            Self::CpuUsed => vp8e_enc_control_id::VP8E_SET_CPUUSED,
            Self::MaxIntraBitratePct => vp8e_enc_control_id::VP8E_SET_MAX_INTRA_BITRATE_PCT,
            Self::StaticThreshold => vp8e_enc_control_id::VP8E_SET_STATIC_THRESHOLD,
            Self::EnableAutoAltRef => vp8e_enc_control_id::VP8E_SET_ENABLEAUTOALTREF,
            Self::NoiseSensitivity => vp8e_enc_control_id::VP8E_SET_NOISE_SENSITIVITY,
            Self::TokenPartitions => vp8e_enc_control_id::VP8E_SET_TOKEN_PARTITIONS,
            Self::TemporalLayerId => vp8e_enc_control_id::VP8E_SET_TEMPORAL_LAYER_ID,
            Self::Svc => vp8e_enc_control_id::VP9E_SET_SVC,
            Self::Vp9NoiseSensitivity => vp8e_enc_control_id::VP9E_SET_NOISE_SENSITIVITY,
            Self::AqMode => vp8e_enc_control_id::VP9E_SET_AQ_MODE,
            Self::TileColumns => vp8e_enc_control_id::VP9E_SET_TILE_COLUMNS,
            Self::RowMt => vp8e_enc_control_id::VP9E_SET_ROW_MT,
            Self::FrameParallelDecoding => vp8e_enc_control_id::VP9E_SET_FRAME_PARALLEL_DECODING,
        }
    }

    const fn operation(self) -> &'static str {
        match self {
            Self::CpuUsed => "setting cpu-used",
            Self::MaxIntraBitratePct => "capping key frames",
            Self::StaticThreshold => "setting the static threshold",
            Self::EnableAutoAltRef => "switching alternate references off",
            Self::NoiseSensitivity | Self::Vp9NoiseSensitivity => "switching denoising off",
            Self::TokenPartitions => "asking for one token partition",
            Self::TemporalLayerId => "choosing the frame's layer",
            Self::Svc => "switching layers on",
            Self::AqMode => "setting the adaptive quantization",
            Self::TileColumns => "asking for one tile column",
            Self::RowMt => "switching row threads off",
            Self::FrameParallelDecoding => "switching frame-parallel decoding off",
        }
    }
}

/// Describes a picture's planes to libvpx.
fn wrap(picture: &Picture) -> Result<vpx_image_t, LibraryError> {
    let (width, height) = (picture.resolution().width(), picture.resolution().height());
    let mut image = MaybeUninit::<vpx_image_t>::zeroed();
    let data = picture.data().as_ptr().cast_mut();
    // SAFETY: `data` holds width × height × 3/2 bytes, which is what I420 with rows packed to one byte takes up for
    // even sides.
    let wrapped = unsafe { vpx_img_wrap(image.as_mut_ptr(), vpx_img_fmt::VPX_IMG_FMT_I420, width, height, 1, data) };
    if wrapped.is_null() {
        return Err(LibraryError { operation: "wrapping the picture", detail: "the size is not accepted".into() });
    }
    // SAFETY: `vpx_img_wrap` has filled the structure in.
    Ok(unsafe { image.assume_init() })
}

fn check(
    result: vpx_codec_err_t,
    operation: &'static str,
    context: Option<&mut vpx_codec_ctx_t>,
) -> Result<(), LibraryError> {
    if result == vpx_codec_err_t::VPX_CODEC_OK {
        return Ok(());
    }
    // SAFETY: takes any error code, and returns a constant string.
    let mut detail = unsafe { text(vpx_codec_err_to_string(result)) }.into_owned();
    if let Some(context) = context {
        // SAFETY: `context` was initialised, or is as a failed initialisation left it; both are what this function is
        // for. It returns null or a string that lives as long as the context.
        let more = unsafe { text(vpx_codec_error_detail(context)) };
        if !more.is_empty() {
            detail.push_str(": ");
            detail.push_str(&more);
        }
    }
    Err(LibraryError { operation, detail })
}

/// # Safety
///
/// `string` is null, or points at a C string that lives for `'a`.
unsafe fn text<'a>(string: *const std::ffi::c_char) -> Cow<'a, str> {
    if string.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: not null, so the caller's promise holds.
    unsafe { CStr::from_ptr(string) }.to_string_lossy()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lenscast_media::Resolution;
    use vpx_sys::{VPX_CODEC_USE_OUTPUT_PARTITION, vpx_rational};

    use super::*;

    /// Encodes four frames in eight token partitions each.
    fn frames(flags: vpx_codec_flags_t) -> Vec<Vec<u8>> {
        let resolution = Resolution::new(320, 180).unwrap();
        let mut context = Context::with_flags(Algorithm::Vp8, flags, |config| {
            (config.g_w, config.g_h) = (resolution.width(), resolution.height());
            config.g_timebase = vpx_rational { num: 1, den: 1_000_000 };
            config.g_lag_in_frames = 0;
        })
        .unwrap();
        context.set(Control::CpuUsed, -8).unwrap();
        context.set(Control::TokenPartitions, 3).unwrap();
        let mut picture = Picture::black(resolution);
        let frames = (0..4_u32).map(|frame| {
            for (index, luma) in (0_u32..).zip(picture.planes_mut().y) {
                *luma = ((index % 320 + frame * 3) * (index / 320 + 7) / 9 % 200) as u8;
            }
            let duration = Duration::from_millis(33);
            let info = context.encode(&picture, FrameTime { start: duration * frame, duration }, 0).unwrap();
            assert_eq!(info.unwrap().key_frame, frame == 0);
            assert_eq!(matches!(context.output, Output::Joined), flags != 0, "or this tests nothing");
            context.output().to_vec()
        });
        frames.collect()
    }

    #[test]
    fn a_frame_in_several_packets_comes_out_as_the_same_frame_in_one() {
        assert!(frames(VPX_CODEC_USE_OUTPUT_PARTITION.into()) == frames(0));
    }

    #[test]
    fn the_output_is_gone_after_any_other_call() {
        let resolution = Resolution::new(64, 64).unwrap();
        let mut context = Context::new(Algorithm::Vp9, |config| {
            (config.g_w, config.g_h) = (64, 64);
            config.g_lag_in_frames = 0;
        })
        .unwrap();
        let mut number = 0;
        let mut encode = |context: &mut Context| {
            let duration = Duration::from_millis(33);
            number += 1;
            let time = FrameTime { start: duration * number, duration };
            context.encode(&Picture::black(resolution), time, 0).unwrap().unwrap();
            assert!(!context.output().is_empty());
        };
        encode(&mut context);
        context.reconfigure(|config| config.rc_target_bitrate = 100).unwrap();
        assert!(context.output().is_empty());
        encode(&mut context);
        context.set(Control::CpuUsed, 7).unwrap();
        assert!(context.output().is_empty());
    }

    #[test]
    fn what_libvpx_refuses_is_told_in_its_own_words() {
        let refused = Context::new(Algorithm::Vp8, |config| config.rc_max_quantizer = 64);
        let error = refused.err().unwrap();
        assert_eq!(error.operation, "initialising");
        assert!(error.detail.contains("rc_max_quantizer"), "{error:?}");

        let mut context = Context::new(Algorithm::Vp9, |_| {}).unwrap();
        let error = context.reconfigure(|config| config.rc_min_quantizer = 64).unwrap_err();
        assert!(error.detail.contains("rc_min_quantizer"), "{error:?}");
        context.reconfigure(|config| assert_ne!(config.rc_min_quantizer, 64)).unwrap();
    }
}
