//! How a viewer's offer becomes a session.

use std::collections::BTreeSet;
use std::io;
use std::time::Instant;

use lenscast_media::{Codec, Ssrc};
use lenscast_router::{ConsumerId, ConsumerParameters, Layers, Priority, TransportId};
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _};
use thiserror::Error;

use crate::answer::LocalDescription;
use crate::answer::viewer::{Agreement, Shown, Sources, answer};
use crate::leg::PathFeedback;
use crate::purpose::{PlannedView, Purpose};
use crate::session::{Security, SessionSetup};
use crate::{CreatedSession, IceCredentials, PlayRequest, PreferredLayers, TransportServer, ViewerOffer};

/// Why a session could not be made of an offer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CreateSessionError {
    /// The offer is for more or fewer cameras.
    #[error("the offer has {sections} video sections, there are {cameras} cameras to show")]
    Cameras {
        /// How many cameras the offer is for.
        sections: usize,
        /// How many there are to be shown.
        cameras: usize,
    },
    /// The viewer cannot decode what the camera sends.
    #[error("the camera sends {codec}, the offer has only {offered}")]
    Codec {
        /// Which of the cameras, in the order of the offer.
        camera: usize,
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
    /// Answers a viewer's offer with the tracks of the cameras that `requests` name, in the order of the offer's sections.
    /// `loopback` says that the viewer is on this machine.
    ///
    /// # Errors
    ///
    /// If the viewer cannot decode one of them, the offer is for another number, or no more sessions are allowed.
    pub fn create_session(
        &self,
        offer: &ViewerOffer,
        requests: &[PlayRequest],
        loopback: bool,
    ) -> Result<CreatedSession, CreateSessionError> {
        let (sections, cameras) = (offer.mids().count(), requests.len());
        if sections != cameras {
            return Err(CreateSessionError::Cameras { sections, cameras });
        }
        let candidates = self.candidates(loopback).map_err(CreateSessionError::Addresses)?;
        let id = TransportId(self.new_id());
        let mut random = self.random.lock();
        let credentials = IceCredentials::random(&mut *random);
        let cnames: Vec<_> = requests.iter().map(|_| format!("{:016x}", random.next_u64())).collect();
        let mut taken = BTreeSet::new();
        let shown = requests.iter().zip(&cnames).map(|(request, cname)| Shown {
            stream: &request.stream,
            codec: request.video.codec,
            sources: sources(&mut random, &mut taken, cname, request.audio.is_some()),
        });
        let shown: Vec<_> = shown.collect();
        let local = LocalDescription {
            session: random.next_u64() >> 1,
            credentials: &credentials,
            fingerprint: self.certificate.fingerprint(),
            candidates: &candidates,
            streams: &shown.iter().map(|shown| shown.stream).collect::<Vec<_>>(),
        };
        let (agreements, answer) = answer(offer, &shown, &local).map_err(|camera| CreateSessionError::Codec {
            camera,
            codec: shown[camera].codec,
            offered: offer.codecs(camera).map(Codec::encoding_name).collect::<Vec<_>>().join(", "),
        })?;
        let counts = |agreed: &Agreement| agreed.extensions.transport_sequence.is_some();
        let feedback = agreements.iter().any(counts).then_some(PathFeedback::TransportWide);
        let mut views = Vec::with_capacity(cameras);
        for ((request, shown), agreed) in requests.iter().zip(&shown).zip(agreements) {
            let preferred = PreferredLayers::or_highest(request.video.preferred);
            let mut consumer = |ssrc, payload_type, extensions| ConsumerParameters {
                id: ConsumerId(self.new_id()),
                transport: id,
                ssrc,
                payload_type,
                rtx: None,
                extensions,
                cname: shown.sources.cname.to_owned(),
                initial_sequence: random.random_range(0..1 << 15),
                initial_rtx_sequence: random.random_range(0..1 << 15),
                timestamp_offset: random.next_u32(),
                preferred_layers: Layers::HIGHEST,
                priority: Priority::default(),
                paused: false,
            };
            let video = ConsumerParameters {
                rtx: agreed.rtx,
                preferred_layers: preferred,
                ..consumer(shown.sources.video, agreed.payload_type, agreed.extensions)
            };
            let audio = request
                .audio
                .zip(agreed.audio)
                .map(|(producer, agreed)| (producer, consumer(agreed.ssrc, agreed.payload_type, agreed.extensions)));
            views.push(PlannedView { video: (request.video.producer, video), audio });
        }
        drop(random);
        let setup = SessionSetup {
            id,
            credentials,
            restart: None,
            security: Security::Dtls(offer.fingerprint().clone()),
            purpose: Purpose::Viewer(views),
            feedback,
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

/// Random, and none is `taken`: two streams of one source would be protected with the same keystream.
fn sources<'a>(random: &mut StdRng, taken: &mut BTreeSet<u32>, cname: &'a str, has_audio: bool) -> Sources<'a> {
    let mut another = || loop {
        let source = random.next_u32();
        if taken.insert(source) {
            return Ssrc(source);
        }
    };
    Sources { cname, video: another(), rtx: another(), audio: has_audio.then(another) }
}
