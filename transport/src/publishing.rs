//! How an offer to publish becomes a session: what is agreed on, and that each stream has one publisher.

use std::collections::HashMap;
use std::time::Instant;

use lenscast_router::rtp_parameters::ExtensionUri;
use lenscast_router::{
    EncodingParameters, ExtensionId, ProducerId, ProducerParameters, ReceivedExtensions, TransportId,
};
use rand::RngExt;

use crate::answer::LocalDescription;
use crate::answer::publisher::{AgreedTrack, answer};
use crate::directory::Directory;
use crate::offer::PublishedSection;
use crate::purpose::{Purpose, published};
use crate::session::{Security, SessionSetup};
use crate::{
    CreatePublisherError, CreatedPublisher, Fingerprint, IceCredentials, PublishRequest, PublisherOffer,
    TransportServer,
};

/// Who publishes which stream.
#[derive(Default)]
pub(crate) struct Publishers(HashMap<String, TransportId>);

impl Publishers {
    /// True if the stream has a publisher, connected or on its way.
    fn is_busy(&mut self, stream: &str, directory: &Directory) -> bool {
        self.count(directory);
        self.0.contains_key(stream)
    }

    /// How many there are. Forgets those that have gone.
    pub(crate) fn count(&mut self, directory: &Directory) -> usize {
        self.0.retain(|_, session| directory.contains(*session));
        self.0.len()
    }
}

impl TransportServer {
    /// Answers the offer of somebody who wants to publish. `loopback` says that it is on this machine.
    ///
    /// # Errors
    ///
    /// If the stream has a publisher, nothing offered is allowed, or no more sessions are allowed.
    pub fn create_publisher(
        &self,
        offer: &PublisherOffer,
        request: &PublishRequest,
        loopback: bool,
    ) -> Result<CreatedPublisher, CreatePublisherError> {
        let candidates = self.candidates(loopback).map_err(CreatePublisherError::Addresses)?;
        // Held to the end: of two who come at once, one is to be first.
        let mut publishers = self.publishers.lock();
        if publishers.is_busy(&request.stream, &self.directory) {
            return Err(CreatePublisherError::StreamBusy(request.stream.clone()));
        }
        request.accepts(offer)?;
        let id = TransportId(self.new_id());
        let (credentials, session) = {
            let mut random = self.random.lock();
            (IceCredentials::random(&mut *random), random.random_range(0..1 << 63))
        };
        let fingerprint: &Fingerprint = self.certificate.fingerprint();
        let local = LocalDescription {
            session,
            credentials: &credentials,
            fingerprint,
            candidates: &candidates,
            streams: &[&request.stream],
        };
        let answered = answer(offer, &request.codecs, request.max_bitrate, &local);
        let (agreement, answer) = answered.expect("it was accepted");
        let tracks = [(&offer.video, agreement.video)].into_iter().chain(offer.audio.as_ref().zip(agreement.audio));
        let producers: Vec<_> =
            tracks.map(|(section, track)| (ProducerId(self.new_id()), parameters(section, &track))).collect();
        let (published, catalogued) = (published(&producers), producers.clone());
        let setup = SessionSetup {
            id,
            credentials,
            restart: None,
            security: Security::Dtls(offer.fingerprint().clone()),
            purpose: Purpose::Publisher(producers),
            feedback: None,
            created: Instant::now(),
            timeouts: self.config.timeouts,
        };
        // Publishers take no viewer's place: each stream has one at most.
        let most = self.config.max_sessions + publishers.count(&self.directory) + 1;
        if !self.directory.announce(setup, most) {
            return Err(CreatePublisherError::Full(self.config.max_sessions));
        }
        publishers.0.insert(request.stream.clone(), id);
        self.catalog.tidy(&self.directory);
        for (producer, parameters) in catalogued {
            self.catalog.add(producer, parameters, Some(id));
        }
        Ok(CreatedPublisher { id, answer, producers: published })
    }
}

/// How the router is to read a track's packets.
pub(crate) fn parameters(section: &PublishedSection, track: &AgreedTrack) -> ProducerParameters {
    let extension = |uri: ExtensionUri| -> Option<ExtensionId> { section.extensions.id(uri) };
    let encodings = section.encodings.iter().map(|encoding| EncodingParameters {
        ssrc: encoding.ssrc,
        // Without a payload type for them there are no retransmissions.
        rtx_ssrc: encoding.rtx_ssrc.filter(|_| track.rtx.is_some()),
        rid: encoding.rid,
    });
    ProducerParameters {
        codec: track.codec,
        clock_rate: track.codec.clock_rate(),
        encodings: encodings.collect(),
        temporal_layers: 1,
        payload_type: Some(track.payload_type),
        rtx_payload_type: track.rtx,
        mid: section.mid(),
        returns_reference_times: section.returns_reference_times,
        extensions: ReceivedExtensions {
            mid: extension(ExtensionUri::Mid),
            rid: extension(ExtensionUri::RtpStreamId),
            repaired_rid: extension(ExtensionUri::RepairedRtpStreamId),
            absolute_send_time: extension(ExtensionUri::AbsoluteSendTime),
            transport_sequence: extension(ExtensionUri::TransportWideSequence),
            absolute_capture_time: extension(ExtensionUri::AbsoluteCaptureTime),
            playout_delay: extension(ExtensionUri::PlayoutDelay),
            video_orientation: extension(ExtensionUri::VideoOrientation),
            audio_level: extension(ExtensionUri::AudioLevel),
        },
    }
}
