//! How a viewer's offer becomes a session.

use std::io;
use std::time::Instant;

use lenscast_media::{Codec, Ssrc};
use lenscast_router::{ConsumerId, ConsumerParameters, Layers, Priority, TransportId};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt};
use thiserror::Error;

use crate::answer::LocalDescription;
use crate::answer::viewer::{AudioAgreement, Sources, answer};
use crate::purpose::Purpose;
use crate::session::{Security, SessionSetup};
use crate::{CreatedSession, IceCredentials, PlayRequest, PlayedVideo, PreferredLayers, TransportServer, ViewerOffer};

/// Why a session could not be made of an offer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateSessionError {
    /// The viewer cannot decode what the camera sends.
    #[error("the camera sends {codec}, the offer has only {offered}")]
    Codec {
        /// What the camera sends.
        codec: Codec,
        /// What the viewer offers, of what we know.
        offered: String,
    },
    /// There are as many sessions as are allowed.
    #[error("all {0} sessions are in use")]
    Full(usize),
    /// The system does not tell our addresses.
    #[error("cannot list this host's addresses: {0}")]
    Addresses(io::Error),
}

impl TransportServer {
    /// Answers a viewer's offer with the tracks that `request` names. `loopback` says that the viewer is on this machine.
    ///
    /// # Errors
    ///
    /// If the viewer cannot decode the stream, or no more sessions are allowed.
    pub fn create_session(
        &self,
        offer: &ViewerOffer,
        request: &PlayRequest,
        loopback: bool,
    ) -> Result<CreatedSession, CreateSessionError> {
        let PlayedVideo { producer, codec, preferred } = request.video;
        let candidates = self.candidates(loopback).map_err(CreateSessionError::Addresses)?;
        let id = TransportId(self.new_id());
        let mut random = self.random.lock();
        let credentials = IceCredentials::random(&mut *random);
        let cname = format!("{:016x}", random.next_u64());
        let sources = sources(&mut random, &cname, request.audio.is_some());
        let local = LocalDescription {
            session: random.next_u64() >> 1,
            credentials: &credentials,
            fingerprint: self.certificate.fingerprint(),
            candidates: &candidates,
            stream: &request.stream,
        };
        let (agreement, answer) = answer(offer, codec, &local, &sources).ok_or_else(|| CreateSessionError::Codec {
            codec,
            offered: offer.codecs().map(Codec::encoding_name).collect::<Vec<_>>().join(", "),
        })?;
        let video = ConsumerParameters {
            id: ConsumerId(id.0),
            transport: id,
            ssrc: sources.video,
            payload_type: agreement.payload_type,
            rtx: agreement.rtx,
            extensions: agreement.extensions,
            cname: cname.clone(),
            initial_sequence: random.random_range(0..1 << 15),
            initial_rtx_sequence: random.random_range(0..1 << 15),
            timestamp_offset: random.next_u32(),
            preferred_layers: PreferredLayers::or_highest(preferred),
            priority: Priority::default(),
            paused: false,
        };
        let mut consumers = vec![(producer, video)];
        if let Some((producer, agreed)) = request.audio.zip(agreement.audio) {
            let AudioAgreement { ssrc, payload_type, extensions } = agreed;
            let audio = ConsumerParameters {
                id: ConsumerId(self.new_id()),
                transport: id,
                ssrc,
                payload_type,
                rtx: None,
                extensions,
                cname: cname.clone(),
                initial_sequence: random.random_range(0..1 << 15),
                initial_rtx_sequence: 0,
                timestamp_offset: random.next_u32(),
                preferred_layers: Layers::HIGHEST,
                priority: Priority::default(),
                paused: false,
            };
            consumers.push((producer, audio));
        }
        drop(random);
        let setup = SessionSetup {
            id,
            credentials,
            restart: None,
            security: Security::Dtls(offer.fingerprint().clone()),
            purpose: Purpose::Viewer(consumers),
            created: Instant::now(),
            timeouts: self.config.timeouts,
        };
        let publishers = self.publishers.lock().count(&self.directory);
        if !self.directory.announce(setup, self.config.max_sessions + publishers) {
            return Err(CreateSessionError::Full(self.config.max_sessions));
        }
        Ok(CreatedSession { id, answer })
    }
}

/// Random, and each another: two streams of one source would be protected with the same keystream.
fn sources<'a>(random: &mut StdRng, cname: &'a str, has_audio: bool) -> Sources<'a> {
    let video = random.next_u32();
    let mut step = || 1 + random.next_u32() / 2;
    // Half way round ahead at most, and a quarter behind.
    let rtx = video.wrapping_add(step());
    let audio = has_audio.then(|| Ssrc(video.wrapping_sub(1 + step() / 2)));
    Sources { cname, video: Ssrc(video), rtx: Ssrc(rtx), audio }
}
