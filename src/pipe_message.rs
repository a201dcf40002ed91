//! What two lenscasts say to each other over HTTP to lay a pipe: `POST /api/v1/pipes` with a stream's name, answered by what
//! the edge needs to connect. It holds keys: over networks that others read, it needs HTTPS.

use lenscast_media::{Codec, MediaCodec, Ssrc};
use lenscast_router::{ExtensionId, PayloadType, ProducerId, TransportId};
use lenscast_transport::{IceCredentials, PipeKeys, PipeOffer, PipedEncoding, PipedProducer};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::net::SocketAddr;
use thiserror::Error;

/// Which stream a pipe is wanted for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipeRequest {
    /// Its name at the origin.
    pub(crate) stream: String,
}

/// Why an answer is no pipe's offer.
#[derive(Debug, Error)]
#[error("the other lenscast's answer cannot be used: {0}")]
pub(crate) struct ReadPipeOfferError(String);

/// An offer in JSON. Whole numbers over 2⁵³ are text.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfferMessage {
    session: String,
    epoch: String,
    ufrag: String,
    password: String,
    origin_key: String,
    edge_key: String,
    candidates: Vec<SocketAddr>,
    producers: Vec<ProducerMessage>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ProducerMessage {
    id: String,
    codec: String,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
    encodings: Vec<EncodingMessage>,
    temporal_layers: u8,
    absolute_capture_time: u8,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EncodingMessage {
    ssrc: u32,
    rtx_ssrc: Option<u32>,
}

/// The body of the request.
pub(crate) fn request(stream: &str) -> Value {
    json!({ "stream": stream })
}

/// The body of its answer.
pub(crate) fn offer(offer: &PipeOffer) -> Value {
    let message = OfferMessage {
        session: offer.session.0.to_string(),
        epoch: offer.epoch.to_string(),
        ufrag: offer.credentials.ufrag.clone(),
        password: offer.credentials.password().to_owned(),
        origin_key: hex(&offer.keys.origin),
        edge_key: hex(&offer.keys.edge),
        candidates: offer.candidates.clone(),
        producers: offer.producers.iter().map(producer_message).collect(),
    };
    serde_json::to_value(message).expect("it has text, numbers and lists only")
}

/// Reads that body.
pub(crate) fn read_offer(text: &str) -> Result<PipeOffer, ReadPipeOfferError> {
    let message: OfferMessage = serde_json::from_str(text).map_err(|error| ReadPipeOfferError(error.to_string()))?;
    let credentials = IceCredentials::new(&message.ufrag, &message.password);
    Ok(PipeOffer {
        session: TransportId(number("session", &message.session)?),
        epoch: number("epoch", &message.epoch)?,
        credentials: credentials.ok_or_else(|| wrong("ufrag", &message.ufrag))?,
        keys: PipeKeys { origin: key("originKey", &message.origin_key)?, edge: key("edgeKey", &message.edge_key)? },
        candidates: message.candidates,
        producers: message.producers.iter().map(read_producer).collect::<Result<_, _>>()?,
    })
}

/// What a problem's body (RFC 9457) says is wrong, as far as it can be shown.
pub(crate) fn problem_detail(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap_or_default();
    let detail = value["detail"].as_str().unwrap_or("no reason given");
    detail.chars().filter(|letter| !letter.is_control()).take(200).collect()
}

fn producer_message(producer: &PipedProducer) -> ProducerMessage {
    let encoding = |encoding: &PipedEncoding| EncodingMessage {
        ssrc: encoding.ssrc.0,
        rtx_ssrc: encoding.rtx_ssrc.map(|Ssrc(ssrc)| ssrc),
    };
    ProducerMessage {
        id: producer.id.0.to_string(),
        codec: producer.codec.encoding_name().to_owned(),
        payload_type: producer.payload_type.value(),
        rtx_payload_type: producer.rtx_payload_type.map(PayloadType::value),
        encodings: producer.encodings.iter().map(encoding).collect(),
        temporal_layers: producer.temporal_layers,
        absolute_capture_time: producer.absolute_capture_time.value(),
    }
}

fn read_producer(message: &ProducerMessage) -> Result<PipedProducer, ReadPipeOfferError> {
    let payload_type = |value: u8| PayloadType::new(value).ok_or_else(|| wrong("payloadType", &value.to_string()));
    let codecs = Codec::ALL.map(MediaCodec::Video).into_iter().chain([MediaCodec::Opus]);
    let codec = codecs.into_iter().find(|codec| codec.encoding_name() == message.codec);
    let extension = ExtensionId::new(message.absolute_capture_time);
    let encoding =
        |encoding: &EncodingMessage| PipedEncoding { ssrc: Ssrc(encoding.ssrc), rtx_ssrc: encoding.rtx_ssrc.map(Ssrc) };
    Ok(PipedProducer {
        id: ProducerId(number("id", &message.id)?),
        codec: codec.ok_or_else(|| wrong("codec", &message.codec))?,
        payload_type: payload_type(message.payload_type)?,
        rtx_payload_type: message.rtx_payload_type.map(payload_type).transpose()?,
        encodings: message.encodings.iter().map(encoding).collect(),
        temporal_layers: message.temporal_layers,
        absolute_capture_time: extension
            .ok_or_else(|| wrong("absoluteCaptureTime", &message.absolute_capture_time.to_string()))?,
    })
}

fn number(field: &str, text: &str) -> Result<u64, ReadPipeOfferError> {
    text.parse().map_err(|_| wrong(field, text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Not shown in an error: it is secret.
fn key(field: &str, text: &str) -> Result<[u8; 28], ReadPipeOfferError> {
    let mut key = [0; 28];
    let mut pairs = text.as_bytes().chunks_exact(2);
    let all = text.len() == 2 * key.len()
        && key.iter_mut().zip(&mut pairs).all(|(byte, pair)| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| !pair.starts_with('+'));
            pair.and_then(|pair| u8::from_str_radix(pair, 16).ok()).map(|read| *byte = read).is_some()
        });
    if all { Ok(key) } else { Err(ReadPipeOfferError(format!("{field} is not a key"))) }
}

fn wrong(field: &str, value: &str) -> ReadPipeOfferError {
    ReadPipeOfferError(format!("{field} = {:?}", value.chars().take(40).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn example() -> PipeOffer {
        let producer = |id, codec, rtx: Option<u8>| PipedProducer {
            id: ProducerId(id),
            codec,
            payload_type: PayloadType::new(96).unwrap(),
            rtx_payload_type: rtx.and_then(PayloadType::new),
            encodings: vec![PipedEncoding { ssrc: Ssrc(u32::MAX), rtx_ssrc: rtx.map(|_| Ssrc(5)) }; 3],
            temporal_layers: 3,
            absolute_capture_time: ExtensionId::new(4).unwrap(),
        };
        PipeOffer {
            session: TransportId(u64::MAX),
            epoch: u64::MAX - 1,
            credentials: IceCredentials::new("abcd", "0123456789abcdef012345").unwrap(),
            keys: PipeKeys { origin: [0xa5; 28], edge: [0x0f; 28] },
            candidates: vec!["192.0.2.1:8189".parse().unwrap(), "[2001:db8::1]:8189".parse().unwrap()],
            producers: vec![
                producer(u64::MAX, MediaCodec::Video(Codec::H264), Some(97)),
                producer(2, MediaCodec::Opus, None),
            ],
        }
    }

    #[test]
    fn an_offer_reads_back_as_itself() {
        assert_eq!(read_offer(&offer(&example()).to_string()).unwrap(), example());
    }

    #[test]
    fn what_is_wrong_is_named_and_no_key_is_told() {
        let good = offer(&example());
        for (field, value) in [
            ("session", json!("x")),
            ("ufrag", json!("a")),
            ("originKey", json!("5ec4e7")),
            ("edgeKey", json!("5ec4e7".repeat(9) + "5ä")),
            ("candidates", json!(["nowhere"])),
            ("producers", json!([{}])),
        ] {
            let mut bad = good.clone();
            bad[field] = value;
            let error = read_offer(&bad.to_string()).unwrap_err().to_string();
            assert!(!error.contains("5ec4e7"), "{error}");
            assert!(
                ["session", "ufrag", "edgeKey", "originKey"].iter().all(|named| *named != field)
                    || error.contains(field),
                "{error}"
            );
        }
        assert_eq!(problem_detail("{\"detail\":\"no\\nway\"}"), "noway");
        assert_eq!(problem_detail("<html>"), "no reason given");
    }

    proptest! {
        #[test]
        fn garbage_is_refused(text in "\\PC{0,300}") {
            prop_assert!(read_offer(&text).is_err());
        }
    }
}
