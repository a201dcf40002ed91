//! Fetches a stream of another lenscast: asks it for a pipe, takes that up, and does so again whenever it breaks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_transport::{ConnectPipeError, PipeOffer, PipeState, PublishedProducer};
use thiserror::Error;

use crate::agent::Agent;
use crate::config::{PullConfig, StreamSource};
use crate::ingress::Tracks;
use crate::pipe_message::{self, ReadPipeOfferError};
use crate::stream::Stream;

/// Between two attempts: at first, and at most. Each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(8);

/// The other one is asked for an answer within this time.
const TIMEOUT: Duration = Duration::from_secs(10);

/// No pipe's offer is longer: each of 16 producers takes about 300 bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Why there is no pipe yet.
#[derive(Debug, Error)]
enum PullError {
    #[error("{url} does not answer: {error}")]
    Unreachable { url: String, error: String },
    #[error("{url} refuses with {status}: {detail}")]
    Refused { url: String, status: u16, detail: String },
    #[error(transparent)]
    Answer(#[from] ReadPipeOfferError),
    #[error("the other one's stream has no video")]
    NoVideo,
    #[error("the other one's stream ended at once")]
    Ended,
    #[error(transparent)]
    Connect(#[from] ConnectPipeError),
}

/// Runs until the stream is ended.
pub(crate) async fn follow(agent: Arc<Agent>, stream: Arc<Stream>) {
    let config = stream.config();
    let StreamSource::Pull(pull) = &config.source else { return };
    let mut pause = FIRST_PAUSE;
    let mut told = String::new();
    while !stream.is_stopped() {
        match attempt(&agent, &stream, pull).await {
            Ok(()) if until(&stream, |stream| stream.pipe() != Some(PipeState::Connecting)).await => {
                if stream.pipe() == Some(PipeState::Lost) {
                    explain(&stream, &mut told, "the other one answers, but not at the UDP addresses that it offers");
                } else {
                    told.clear();
                    tracing::info!(stream = config.name, from = pull.url, "fetched from another lenscast");
                    let begun = Instant::now();
                    if !until(&stream, |stream| !matches!(stream.pipe(), Some(PipeState::Connected { .. }))).await {
                        return;
                    }
                    tracing::warn!(stream = config.name, from = pull.url, "the other lenscast is lost, trying again");
                    // One that breaks as soon as it is there is asked more and more seldom.
                    if begun.elapsed() > LAST_PAUSE {
                        pause = FIRST_PAUSE;
                    }
                }
            }
            Ok(()) => return,
            Err(error) => explain(&stream, &mut told, &error.to_string()),
        }
        stream.pause_for(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Says why there is no pipe, in the log only if it is news.
fn explain(stream: &Stream, told: &mut String, error: &str) {
    if error != told {
        tracing::warn!(stream = stream.name(), error, "cannot be fetched, trying again");
        error.clone_into(told);
    }
    stream.explain(error.to_owned());
}

/// Asks once, and takes up what is offered.
async fn attempt(agent: &Agent, stream: &Stream, pull: &PullConfig) -> Result<(), PullError> {
    let asked = pull.clone();
    let offer = tokio::task::spawn_blocking(move || ask(&asked)).await;
    let offer = offer.unwrap_or_else(|_| {
        Err(PullError::Unreachable { url: pull.url.clone(), error: "asking it panicked".to_owned() })
    })?;
    let transport = agent.transport();
    if let Some(session) = stream.session() {
        // Its viewers stay.
        match transport.reconnect_pipe(session, offer.clone()).await {
            Ok(()) => {
                agent.look_at_pipe(stream);
                return Ok(());
            }
            Err(ConnectPipeError::Changed | ConnectPipeError::Unknown(_)) => {
                transport.close_session(session).await;
                stream.end(session, None, Instant::now());
            }
            Err(error) => return Err(error.into()),
        }
    }
    let pipe = transport.connect_pipe(offer).await?;
    let producers: Vec<_> = pipe
        .producers
        .iter()
        .map(|producer| PublishedProducer { id: producer.id, codec: producer.codec, layers: producer.layers })
        .collect();
    let tracks = Tracks::of(&producers);
    if tracks.is_none_or(|tracks| !stream.begin(pipe.id, tracks, Instant::now())) {
        transport.close_session(pipe.id).await;
        return if tracks.is_none() { Err(PullError::NoVideo) } else { Ok(()) };
    }
    // Nothing holds it up here: only its origin can.
    stream.arrive(pipe.id, Instant::now());
    // It may have been connected before the stream knew its name.
    agent.look_at_pipe(stream);
    if transport.pipe_state(pipe.id).is_none() {
        stream.end(pipe.id, None, Instant::now());
        return Err(PullError::Ended);
    }
    Ok(())
}

/// Asks the other lenscast. Blocks.
fn ask(pull: &PullConfig) -> Result<PipeOffer, PullError> {
    let unreachable = |error: ureq::Error| PullError::Unreachable { url: pull.url.clone(), error: error.to_string() };
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_global(Some(TIMEOUT))
        .user_agent(concat!("lenscast/", env!("CARGO_PKG_VERSION")))
        .build();
    let mut request = config
        .new_agent()
        .post(format!("{}/api/v1/pipes", pull.url))
        .header("Content-Type", "application/json")
        .header("Accept", "application/json");
    if let Some(token) = &pull.token {
        request = request.header("Authorization", format!("Bearer {}", token.expose()));
    }
    let body = pipe_message::request(&pull.stream).to_string();
    let mut response = request.send(body).map_err(unreachable)?;
    let text = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_string().map_err(unreachable)?;
    let status = response.status().as_u16();
    if status != 201 {
        let detail = pipe_message::problem_detail(&text);
        return Err(PullError::Refused { url: pull.url.clone(), status, detail });
    }
    Ok(pipe_message::read_offer(&text)?)
}

/// Waits until that is so of the stream. False if the stream is ended first.
async fn until(stream: &Stream, is_so: impl Fn(&Stream) -> bool) -> bool {
    stream.until(|| stream.is_stopped() || is_so(stream)).await;
    !stream.is_stopped()
}
