//! Receives a stream that comes as plain RTP: listens for whoever sends it, and again when that one has gone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_router::PayloadType;
use lenscast_transport::{CreatedPlainTransport, PlainProducer, PlainTransportOptions, SrtpParameters};

use crate::agent::Agent;
use crate::config::RtpConfig;
use crate::ingress::Tracks;
use crate::stream::Stream;

/// A sender that has been silent for this long has gone, and its viewers with it: the next one comes from another port,
/// with another source.
const SILENCE: Duration = Duration::from_secs(5);

/// Between two attempts to listen: at first, and at most. Each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(8);

/// Runs until the stream is ended.
pub(crate) async fn follow(agent: Arc<Agent>, stream: Arc<Stream>) {
    let config = stream.config();
    let Some(rtp) = config.rtp() else { return };
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    while !stream.is_stopped() && !agent.is_stopping() {
        match agent.transport().create_plain_transport(options(rtp)).await {
            Ok(created) => {
                told.clear();
                pause = FIRST_PAUSE;
                tracing::info!(stream = config.name, rtp = %created.rtp, rtcp = ?created.rtcp, "listens for plain RTP");
                wait_for_sender(&agent, &stream, &created).await;
                stream.until_broken().await;
            }
            Err(error) => {
                let error = error.to_string();
                if error != told {
                    tracing::error!(stream = config.name, error, "cannot be received, trying again");
                    told.clone_from(&error);
                }
                stream.explain(error);
                stream.pause_for(pause).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        }
    }
}

/// Makes the stream the transport's.
async fn wait_for_sender(agent: &Agent, stream: &Stream, created: &CreatedPlainTransport) {
    let (transport, now) = (agent.transport(), Instant::now());
    let tracks = Tracks::of(&created.producers);
    if tracks.is_none_or(|tracks| !stream.begin(created.id, tracks, now)) {
        transport.close_session(created.id).await;
        return;
    }
    stream.explain(format!("nobody sends to UDP {}", created.rtp));
    // What befell it before that was told to nobody.
    match transport.session_stats(created.id).await {
        Some(stats) if stats.connected.is_some() => {
            let held = stream.arrive(created.id, Instant::now());
            agent.hold_up(held).await;
        }
        Some(_) => {}
        None => {
            stream.end(created.id, None, Instant::now());
        }
    }
}

fn options(rtp: &RtpConfig) -> PlainTransportOptions {
    let payload_type = PayloadType::new(rtp.payload_type).expect("the configuration has been checked");
    let srtp = rtp.srtp.as_ref().map(|srtp| {
        let key = srtp.key.base64().expect("the configuration has been checked");
        SrtpParameters { profile: srtp.profile, local: key.clone(), remote: key }
    });
    PlainTransportOptions {
        listen: rtp.listen,
        remote: None,
        rtcp_mux: rtp.rtcp_mux,
        srtp,
        produce: vec![PlainProducer { codec: rtp.codec.into(), payload_type, ssrc: None }],
        silence: Some(SILENCE),
    }
}
