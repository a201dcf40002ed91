//! The part of openh264's encoder interface that lenscast needs, made safe.
//!
//! The crate `openh264` makes the encoder, keeps it and ends it; what it does not offer (temporal layers, the size of key
//! frames) is set through its raw interface.
//!
//! **Invariants.** A [`Context`] is initialised from its making to its drop. Every key frame is an IDR frame with its SPS
//! and PPS in front. openh264 prints nothing.
//!
//! What it does not do: choose any setting.

#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};
use std::time::Duration;
use std::{ptr, slice};

use lenscast_media::Picture;
use openh264::OpenH264API;
use openh264::encoder::{Encoder, EncoderConfig};
use openh264::formats::YUVSlices;
use openh264_sys2::{
    ENCODER_OPTION, ENCODER_OPTION_BITRATE, ENCODER_OPTION_FRAME_RATE, ENCODER_OPTION_MAX_BITRATE,
    ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, ENCODER_OPTION_TRACE_LEVEL, SBitrateInfo, SEncParamExt, SFrameBSInfo,
    SLayerBSInfo, SPATIAL_LAYER_0, SSourcePicture, WELS_LOG_QUIET, videoFormatI420, videoFrameTypeI, videoFrameTypeIDR,
    videoFrameTypeIPMixed, videoFrameTypeP, videoFrameTypeSkip,
};

use crate::live_encoder::LibraryError;

/// A running encoder.
pub(super) struct Context {
    encoder: Encoder,
    /// Written by openh264 with each frame. Boxed, for it is large.
    info: Box<SFrameBSInfo>,
}

// SAFETY: openh264 ties an encoder to no thread: it uses no thread-local state, and with one thread (`settings`) starts
// none. All calls go through `&mut Context`. `info` points into memory that the encoder owns.
unsafe impl Send for Context {}

/// What is known of a frame besides its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CodedFrame {
    pub(super) key_frame: bool,
    pub(super) temporal_layer: u8,
}

/// What is set in a running encoder.
#[derive(Debug, Clone, Copy)]
pub(super) enum Setting {
    FrameRate(f32),
    /// In bits/s.
    Bitrate(c_int),
    /// In bits/s.
    MaxBitrate(c_int),
}

/// Sides of the picture that the crate initialises an encoder with: 16 is the smallest that openh264 takes.
const FIRST_SIDES: [usize; 2] = [16, 32];

impl Context {
    /// Starts an encoder with openh264's defaults as `configure` changed them.
    pub(super) fn new(configure: impl FnOnce(&mut SEncParamExt)) -> Result<Self, LibraryError> {
        let encoder = Encoder::with_api_config(OpenH264API::from_source(), EncoderConfig::new().num_threads(1));
        let encoder = encoder.map_err(|error| call_error("creating the encoder", error.to_string()))?;
        let mut context = Self { encoder, info: Box::default() };
        context.set_option(ENCODER_OPTION_TRACE_LEVEL, &mut { WELS_LOG_QUIET })?;
        let mut parameters = SEncParamExt::default();
        // SAFETY: the encoder exists, and `parameters` is writable for the call.
        let result = unsafe { context.encoder.raw_api().get_default_params(&mut parameters) };
        check(result, "reading the default configuration")?;
        configure(&mut parameters);
        // The crate initialises an encoder with its first picture, and with what it knows of. Told of another size, openh264
        // starts anew with all that it is told.
        let size = (parameters.iPicWidth, parameters.iPicHeight);
        let side = FIRST_SIDES.into_iter().find(|&side| size != (side as c_int, side as c_int)).expect("they differ");
        let (luma, chroma) = (vec![128; side * side], vec![128; side * side / 4]);
        let picture = YUVSlices::new((&luma, &chroma, &chroma), (side, side), (side, side / 2, side / 2));
        let first = context.encoder.encode(&picture);
        first.map_err(|error| call_error("initialising", error.to_string()))?;
        context.set_option(ENCODER_OPTION_SVC_ENCODE_PARAM_EXT, &mut parameters)?;
        // The crate sets its own once more.
        context.set_option(ENCODER_OPTION_TRACE_LEVEL, &mut { WELS_LOG_QUIET })?;
        Ok(context)
    }

    /// Changes a setting between two frames.
    pub(super) fn set(&mut self, setting: Setting) -> Result<(), LibraryError> {
        let mut bitrate = |bits_per_second, option| {
            let mut info = SBitrateInfo { iLayer: SPATIAL_LAYER_0, iBitrate: bits_per_second };
            self.set_option(option, &mut info)
        };
        let result = match setting {
            Setting::Bitrate(bits_per_second) => bitrate(bits_per_second, ENCODER_OPTION_BITRATE),
            Setting::MaxBitrate(bits_per_second) => bitrate(bits_per_second, ENCODER_OPTION_MAX_BITRATE),
            Setting::FrameRate(mut rate) => self.set_option(ENCODER_OPTION_FRAME_RATE, &mut rate),
        };
        result.map_err(|error| call_error(error.operation, format!("{} to {setting:?}", error.detail)))
    }

    /// The next frame is to be a key frame.
    pub(super) fn force_key_frame(&mut self) {
        self.encoder.force_intra_frame();
    }

    /// Encodes one picture, and appends the frame to `output` in Annex B form. `None` if openh264 dropped it.
    pub(super) fn encode(
        &mut self,
        picture: &Picture,
        start: Duration,
        output: &mut Vec<u8>,
    ) -> Result<Option<CodedFrame>, LibraryError> {
        let resolution = picture.resolution();
        // `Resolution::MAX_SIDE` fits.
        let (width, height) = (resolution.width() as c_int, resolution.height() as c_int);
        let planes = picture.planes();
        let data = [planes.y, planes.u, planes.v].map(|plane| plane.as_ptr().cast_mut());
        let source = SSourcePicture {
            iColorFormat: videoFormatI420,
            iStride: [width, width / 2, width / 2, 0],
            pData: [data[0], data[1], data[2], ptr::null_mut()],
            iPicWidth: width,
            iPicHeight: height,
            uiTimeStamp: i64::try_from(start.as_millis()).expect("an encoder runs for less than 292 million years"),
            bPsnrY: false,
            bPsnrU: false,
            bPsnrV: false,
        };
        // SAFETY: the encoder is initialised. `source` points at the picture's planes, of the sizes that it says, which
        // outlive the call; openh264 only reads them. `info` is writable for the call.
        check(unsafe { self.encoder.raw_api().encode_frame(&source, &mut *self.info) }, "encoding")?;
        let key_frame = match self.info.eFrameType {
            kind if kind == videoFrameTypeIDR => true,
            kind if [videoFrameTypeI, videoFrameTypeP, videoFrameTypeIPMixed].contains(&kind) => false,
            kind if kind == videoFrameTypeSkip => return Ok(None),
            _ => return Err(call_error("encoding", "openh264 made no frame of it".into())),
        };
        let layers = usize::try_from(self.info.iLayerNum).unwrap_or(0);
        let layers = &self.info.sLayerInfo[..layers.min(self.info.sLayerInfo.len())];
        for layer in layers {
            // SAFETY: openh264 has just made this layer, and nothing was called since.
            output.extend_from_slice(unsafe { bytes(layer) });
        }
        // The parameter sets are a layer of their own in front.
        let temporal_layer = layers.last().map_or(0, |layer| layer.uiTemporalId);
        Ok(Some(CodedFrame { key_frame, temporal_layer }))
    }

    fn set_option<T: OptionValue>(&mut self, option: ENCODER_OPTION, value: &mut T) -> Result<(), LibraryError> {
        assert!(T::OPTIONS.contains(&option), "each option has values of its own type");
        // SAFETY: the encoder exists, and the value is of the type that openh264 reads for the option; it keeps no pointer to
        // it.
        let result = unsafe { self.encoder.raw_api().set_option(option, ptr::from_mut(value).cast::<c_void>()) };
        check(result, "setting an option")
    }
}

/// A type that options of openh264 have.
trait OptionValue {
    /// Those that have it (`SetOption` in `codec/encoder/plus/src/welsEncoderExt.cpp`).
    const OPTIONS: &[ENCODER_OPTION];
}

impl OptionValue for c_int {
    const OPTIONS: &[ENCODER_OPTION] = &[ENCODER_OPTION_TRACE_LEVEL];
}

impl OptionValue for f32 {
    const OPTIONS: &[ENCODER_OPTION] = &[ENCODER_OPTION_FRAME_RATE];
}

impl OptionValue for SBitrateInfo {
    const OPTIONS: &[ENCODER_OPTION] = &[ENCODER_OPTION_BITRATE, ENCODER_OPTION_MAX_BITRATE];
}

impl OptionValue for SEncParamExt {
    const OPTIONS: &[ENCODER_OPTION] = &[ENCODER_OPTION_SVC_ENCODE_PARAM_EXT];
}

/// The bytes of a layer's NAL units, which follow on one another.
///
/// # Safety
///
/// `layer` is as openh264 left it, and no call has been made to the encoder since.
unsafe fn bytes(layer: &SLayerBSInfo) -> &[u8] {
    let count = usize::try_from(layer.iNalCount).unwrap_or(0);
    if count == 0 || layer.pBsBuf.is_null() {
        return &[];
    }
    // SAFETY: openh264 has written `count` lengths there.
    let lengths = unsafe { slice::from_raw_parts(layer.pNalLengthInByte, count) };
    let len = lengths.iter().map(|&length| usize::try_from(length).unwrap_or(0)).sum();
    // SAFETY: openh264 has written that many bytes there, one NAL unit after another.
    unsafe { slice::from_raw_parts(layer.pBsBuf, len) }
}

fn check(result: c_int, operation: &'static str) -> Result<(), LibraryError> {
    if result == 0 { Ok(()) } else { Err(call_error(operation, format!("openh264 answered {result}"))) }
}

fn call_error(operation: &'static str, detail: String) -> LibraryError {
    LibraryError { operation, detail }
}
