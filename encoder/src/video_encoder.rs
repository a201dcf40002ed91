use lenscast_media::{Bitrate, EncodedFrame, Picture};

#[cfg(any(feature = "vpx", feature = "h264"))]
use crate::Backend;
#[cfg(feature = "h264")]
use crate::h264::OpenH264;
#[cfg(any(feature = "vpx", feature = "h264"))]
use crate::live_encoder::LiveEncoder;
use crate::{BuildEncoderError, EncodeError, EncoderSettings, FrameTiming};
#[cfg(feature = "vpx")]
use crate::{vpx::Vpx, vpx_encode::VpxEncode};

/// One running encoder of one track. Dropping it closes the codec.
///
/// It belongs to one thread at a time, and blocks it for as long as a frame takes.
pub trait VideoEncoder: Send {
    /// What it was built for, with the target of the latest [`VideoEncoder::set_bitrate`].
    fn settings(&self) -> &EncoderSettings;

    /// The next frame is made at this target.
    ///
    /// In place where the library can. `vpx-encode` cannot: it rebuilds itself inside the next
    /// [`VideoEncoder::encode`], which then makes a key frame.
    ///
    /// # Errors
    ///
    /// [`EncodeError::Bitrate`] if the target is not legal, or [`EncodeError::Library`]. The old target then stays.
    fn set_bitrate(&mut self, target: Bitrate) -> Result<(), EncodeError>;

    /// Encodes `picture`, as a key frame if `key_frame` says so or if it is the first.
    ///
    /// `None`: the rate control dropped the frame to keep to its target. A key frame that was asked for is then owed,
    /// and is the next frame that comes out.
    ///
    /// A key frame that would take up more than four average frames is made from a coarser picture, and the frames after
    /// it bring the detail back. (`vpx-encode` does not.)
    ///
    /// # Errors
    ///
    /// [`EncodeError::PictureSize`] or [`EncodeError::Library`]. The encoder can go on with the next picture.
    fn encode(
        &mut self,
        picture: &Picture,
        timing: FrameTiming,
        key_frame: bool,
    ) -> Result<Option<EncodedFrame<'_>>, EncodeError>;
}

/// Builds an encoder. Takes some milliseconds: hold no lock meanwhile.
///
/// # Errors
///
/// [`BuildEncoderError`] names what is wrong with the settings, the missing feature, or what the library said.
pub fn build(settings: &EncoderSettings) -> Result<Box<dyn VideoEncoder>, BuildEncoderError> {
    settings.validate()?;
    match settings.backend {
        #[cfg(feature = "vpx")]
        Backend::Vp8 | Backend::Vp9 => Ok(Box::new(LiveEncoder::<Vpx>::new(settings)?)),
        #[cfg(feature = "vpx")]
        Backend::VpxEncode => Ok(Box::new(LiveEncoder::<VpxEncode>::new(settings)?)),
        #[cfg(feature = "h264")]
        Backend::H264 => Ok(Box::new(LiveEncoder::<OpenH264>::new(settings)?)),
        #[cfg(not(all(feature = "vpx", feature = "h264")))]
        backend => Err(BuildEncoderError::NotCompiledIn { backend, feature: backend.feature() }),
    }
}
