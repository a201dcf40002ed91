//! Viewers on the webrtc crate play real cameras: another ICE, DTLS, SRTP and RTP than ours, and real decoders behind them.

mod support;

#[path = "../encoder/tests/encoders/decoder.rs"]
mod decoder;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use decoder::Decoder;
use lenscast_capture::BurnIn;
use lenscast_media::Codec;
use rtc::rtcp::goodbye::Goodbye;
use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::transport_feedbacks::transport_layer_nack::{TransportLayerNack, nack_pairs_from_sequence_numbers};
use rustix::process::Signal;
use support::answer::{Answer, value};
use support::client::{Client, Event, Options};
use support::frames::Frame;
use support::relay::Relay;
use support::server::{CAMERA, Server, camera_of};
use support::wait::{BOUND, until};
use webrtc::peer_connection::SrtpProtectionProfile;

/// Seconds from NTP's epoch to Unix's (RFC 5905 figure 4).
const NTP_UNIX_OFFSET: f64 = 2_208_988_800.0;

/// A decoded frame's own account of itself.
fn burnt_in(decoder: &mut Decoder, frame: &Frame) -> BurnIn {
    let picture = decoder.decode(&frame.data);
    assert_eq!((picture.resolution().width(), picture.resolution().height()), (320, 240));
    BurnIn::read(&picture).expect("the burnt-in code survives the encoder")
}

/// Milliseconds since 1970 of a 64-bit NTP timestamp.
fn unix_ms(ntp: u64) -> f64 {
    ((ntp >> 32) as f64 + (ntp & 0xFFFF_FFFF) as f64 / 4_294_967_296.0 - NTP_UNIX_OFFSET) * 1e3
}

fn now_ms() -> f64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().expect("it is past 1970").as_secs_f64() * 1e3
}

/// Plays `codec` for two seconds and decodes every frame.
fn plays(codec: Codec, name: &str) {
    let server = Server::ready(&camera_of(name));
    let path = format!("/whep/{name}");
    let offered = Instant::now();
    let mut client = Client::play(&server.http, &path, codec);
    // Identifiers of header extensions, by the answer.
    let extension = |uri: &str| -> u8 {
        let line = client.answer.lines().find(|line| line.starts_with("a=extmap:") && line.ends_with(uri));
        let line = line.unwrap_or_else(|| panic!("{uri} is not agreed on in\n{}", client.answer));
        line["a=extmap:".len()..].split(['/', ' ']).next().unwrap().parse().unwrap()
    };
    let (capture_time, playout_delay) = (extension("abs-capture-time"), extension("playout-delay"));

    let mut decoder = Decoder::new(codec);
    let mut previous: Option<(BurnIn, u32)> = None;
    let (mut with_capture_time, mut skipped, mut latencies) = (0, 0, Vec::new());
    for position in 0..30 {
        let frame = client.frame();
        if position == 0 {
            println!("{codec}: first frame {:?} after the offer", offered.elapsed());
        }
        let burnt = burnt_in(&mut decoder, &frame);
        let captured = burnt.captured_unix.as_secs_f64() * 1e3;
        latencies.push(now_ms() - captured);
        if let Some((before, timestamp)) = previous {
            assert!(burnt.number > before.number, "in order: {burnt:?} after {before:?}");
            skipped += burnt.number - before.number - 1;
            let by_clock = f64::from(frame.timestamp.wrapping_sub(timestamp)) / 90.0;
            let by_picture = captured - before.captured_unix.as_secs_f64() * 1e3;
            assert!((by_clock - by_picture).abs() < 3.0, "RTP says {by_clock} ms, the pictures {by_picture} ms");
        }
        // Agreed extensions come with each key frame, on every packet of it.
        for packet in &frame.packets {
            let stamped = packet.header.get_extension(capture_time);
            assert!(stamped.is_some() || !frame.key_frame);
            if let Some(bytes) = stamped {
                let said = unix_ms(u64::from_be_bytes(bytes[..8].try_into().unwrap()));
                assert!((said - captured).abs() < 3.0, "abs-capture-time {said}, picture {captured}");
                assert_eq!(packet.header.get_extension(playout_delay).as_deref(), Some(&[0, 0, 0][..]));
                with_capture_time += 1;
            }
        }
        previous = Some((burnt, frame.timestamp));
    }
    latencies.sort_by(f64::total_cmp);
    println!(
        "{codec}: capture to decoded p50 {:.1} ms, p97 {:.1} ms; {skipped} frames skipped",
        latencies[15], latencies[29]
    );
    assert!(with_capture_time >= 2, "with the first key frame, and about once a second");
    assert_eq!(client.received().repaired, 0, "nothing is lost on the loopback");

    // What did not come was not sent, and whoever dropped it counted it.
    let metrics = server.metrics();
    assert_eq!(metrics.sum("lenscast_viewer_packets_retransmitted_total"), 0.0, "nor asked for again");
    let counted = |name: &str| metrics.sum(&format!("lenscast_{name}_total")) as u32;
    let accounted =
        counted("camera_frames_evicted") + counted("camera_frames_missed") + counted("track_frames_dropped");
    assert!(skipped <= accounted, "{skipped} frames skipped, {accounted} counted");
}

#[test]
fn vp8_plays_and_every_frame_decodes() {
    plays(Codec::Vp8, "vp8");
}

#[test]
fn vp9_plays_and_every_frame_decodes() {
    plays(Codec::Vp9, "vp9");
}

#[test]
fn h264_plays_and_every_frame_decodes() {
    plays(Codec::H264, "h264");
}

#[test]
fn a_viewer_that_knows_only_aes_cm_128_plays_and_others_get_gcm() {
    let server = Server::ready(CAMERA);
    let only_cm =
        Options { profiles: Some(vec![SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80]), ..Options::default() };
    let mut old = Client::play_with(&server.http, "/whep/front", Codec::Vp8, &only_cm);
    let mut new = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let (mut old_decoder, mut new_decoder) = (Decoder::new(Codec::Vp8), Decoder::new(Codec::Vp8));
    for _ in 0..10 {
        burnt_in(&mut old_decoder, &old.frame());
        burnt_in(&mut new_decoder, &new.frame());
    }
    let viewers = server.http.get("/api/v1/cameras/front").json()["viewers"].clone();
    let profiles: Vec<_> = viewers.as_array().unwrap().iter().map(|viewer| viewer["srtp"].as_str().unwrap()).collect();
    assert_eq!(profiles, ["Aes128CmHmacSha1_80", "AeadAes128Gcm"]);
}

#[test]
fn two_cameras_play_over_one_connection_and_each_is_paused_alone() {
    let server = Server::ready(&format!("{}{}", camera_of("vp8"), camera_of("h264")));
    let codecs = [Codec::Vp8, Codec::H264];
    let mut client = Client::play_all(&server.http, "/whep/vp8,h264", &codecs);
    let mut decoders = codecs.map(Decoder::new);
    let mut play = |client: &mut Client, camera: usize| {
        let frame = client.frame_of(camera);
        let age = now_ms() - burnt_in(&mut decoders[camera], &frame).captured_unix.as_secs_f64() * 1e3;
        (frame, age)
    };
    for _ in 0..15 {
        play(&mut client, 0);
        play(&mut client, 1);
    }
    assert_eq!(server.metrics().sum("lenscast_sessions_connected"), 1.0);
    let secret = client.session.rsplit('/').next().unwrap().to_owned();
    let media = || server.http.get(&format!("/api/v1/sessions/{secret}")).json()["media"].clone();
    let mids: Vec<String> =
        media().as_array().unwrap().iter().map(|medium| medium["mediaId"].as_str().unwrap().to_owned()).collect();
    let path = format!("{}/layer", client.session);
    let pause = |paused: bool| {
        let body = format!("{{\"mediaId\": {:?}, \"paused\": {paused}}}", mids[1]);
        let reply = server.http.call("POST", &path, &[("Content-Type", "application/json")], &body);
        assert_eq!(reply.status, 200, "{reply:?}");
    };
    pause(true);
    // What was on its way still comes; then nothing, while the other goes on.
    let quiet = Instant::now() + Duration::from_millis(500);
    while Instant::now() < quiet {
        play(&mut client, 0);
    }
    while client.frame_of_within(1, Duration::ZERO).is_some() {}
    for _ in 0..15 {
        play(&mut client, 0);
    }
    assert!(client.frame_of_within(1, Duration::ZERO).is_none(), "it is paused");
    pause(false);
    let (frame, age) = play(&mut client, 1);
    assert!(frame.key_frame && age < 2_000.0, "it goes on with a key frame of now: {age} ms");
    assert_eq!(client.delete().status, 200);
}

/// Key frames that the camera has encoded.
fn key_frames(server: &Server) -> f64 {
    server
        .metrics()
        .value("lenscast_track_key_frames_encoded_total", &[("camera", "front")])
        .expect("the camera is there")
}

/// Several viewers ask for key frames all the time; each gets some, and the encoder makes no more than it may.
fn key_frames_on_request(mut ask: impl FnMut(&mut Client, u8), counter: &str) {
    const VIEWERS: usize = 4;
    let server = Server::ready(CAMERA);
    let mut clients: Vec<_> = (0..VIEWERS).map(|_| Client::play(&server.http, "/whep/front", Codec::Vp8)).collect();
    for client in &mut clients {
        client.frame();
    }
    let (began, before) = (Instant::now(), key_frames(&server));
    let mut seen = [0; VIEWERS];
    let (mut asked, mut sequence) = (0, 0);
    while seen.iter().any(|seen| *seen < 4) {
        sequence += 1;
        for (client, seen) in clients.iter_mut().zip(&mut seen) {
            ask(client, sequence);
            asked += 1;
            *seen += usize::from(client.frame().key_frame);
        }
    }
    // A frame is counted once it has been handed on: its viewers may be faster.
    let made = until("the key frames to be counted", || Some(key_frames(&server) - before).filter(|made| *made >= 4.0));
    let elapsed = began.elapsed();
    // One may fall right on either end.
    let allowed = (elapsed.as_secs_f64() / 0.3).floor() + 1.0;
    println!("{asked} requests of {VIEWERS} viewers in {elapsed:?}: {made} key frames");
    assert!(made <= allowed, "{made} key frames in {elapsed:?}, at most {allowed} allowed");
    assert!(asked > 2 * made as usize, "there were more requests than key frames");
    server.metrics_until("all requests to be counted", |metrics| {
        (metrics.sum(counter) >= f64::from(asked as u32)).then_some(())
    });
}

#[test]
fn pli_of_many_viewers_makes_one_key_frame_and_no_two_within_300_ms() {
    let ask = |client: &mut Client, _| {
        client.send_rtcp(PictureLossIndication { sender_ssrc: 1, media_ssrc: client.streams.media });
    };
    key_frames_on_request(ask, "lenscast_viewer_plis_total");
}

#[test]
fn fir_of_many_viewers_makes_one_key_frame_and_no_two_within_300_ms() {
    let ask = |client: &mut Client, sequence_number| {
        let ssrc = client.streams.media;
        client.send_rtcp(FullIntraRequest {
            sender_ssrc: 1,
            media_ssrc: ssrc,
            fir: vec![FirEntry { ssrc, sequence_number }],
        });
    };
    key_frames_on_request(ask, "lenscast_viewer_firs_total");
}

#[test]
fn a_late_viewer_gets_a_picture_and_the_first_one_sees_no_gap() {
    let server = Server::ready(CAMERA);
    let mut first = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut decoder = Decoder::new(Codec::Vp8);
    let mut number = burnt_in(&mut decoder, &first.frame()).number;
    let mut late = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let start = late.frame();
    let shown = burnt_in(&mut Decoder::new(Codec::Vp8), &start).number;
    while number < shown {
        let next = burnt_in(&mut decoder, &first.frame()).number;
        assert!(next > number);
        number = next;
    }
    assert_eq!(number, shown, "both are shown the same encoded frame");
    assert_eq!(server.metrics().sum("lenscast_track_encoders_built_total"), 1.0, "encoded once for both");
}

#[test]
fn a_nack_is_answered_by_rtx_with_the_same_payload() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let lost = client.frame().packets;
    let (source, payload_type) = client.streams.rtx.expect("the offer has RTX");
    let sequences: Vec<u16> = lost.iter().map(|packet| packet.header.sequence_number).collect();
    assert!(sequences.len() > 2, "a key frame is several packets");
    let nacks = nack_pairs_from_sequence_numbers(&sequences);
    client.send_rtcp(TransportLayerNack { sender_ssrc: 1, media_ssrc: client.streams.media, nacks });
    for original in &lost {
        let repaired = client.until("the retransmission", |event| match event {
            // Others measure the path.
            Event::Rtp(packet) if packet.header.ssrc == source => {
                let sequence = original.header.sequence_number.to_be_bytes();
                packet.payload.starts_with(&sequence).then(|| packet.clone())
            }
            _ => None,
        });
        assert_eq!(repaired.header.payload_type, payload_type);
        assert_eq!(repaired.payload[2..], original.payload);
        let identity = |packet: &rtc::rtp::Packet| (packet.header.timestamp, packet.header.marker);
        assert_eq!(identity(&repaired), identity(original));
    }
    assert!(client.received().superfluous >= lost.len() as u64);
    let metrics = server.metrics();
    assert_eq!(metrics.sum("lenscast_viewer_packets_retransmitted_total"), lost.len() as f64);
    // What was never sent cannot be sent again, and is counted.
    let unknown = vec![lost[0].header.sequence_number.wrapping_sub(1)];
    let nacks = nack_pairs_from_sequence_numbers(&unknown);
    client.send_rtcp(TransportLayerNack { sender_ssrc: 1, media_ssrc: client.streams.media, nacks });
    server.metrics_until("the refusal", |metrics| {
        (metrics.sum("lenscast_viewer_retransmissions_refused_total") == 1.0).then_some(())
    });
}

#[test]
fn sender_reports_map_rtp_time_to_the_wall_clock() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut decoder = Decoder::new(Codec::Vp8);
    let media = client.streams.media;
    for _ in 0..2 {
        let report = client.until("a sender report", |event| match event {
            Event::Rtcp(packets) => packets.iter().find_map(|packet| {
                packet.as_any().downcast_ref::<SenderReport>().filter(|report| report.ssrc == media).cloned()
            }),
            _ => None,
        });
        assert!(report.packet_count > 0 && report.octet_count > 0);
        let frame = client.frame();
        let captured = burnt_in(&mut decoder, &frame).captured_unix.as_secs_f64() * 1e3;
        let ticks = frame.timestamp.wrapping_sub(report.rtp_time) as i32;
        let mapped = unix_ms(report.ntp_time) + f64::from(ticks) / 90.0;
        println!("captured at {captured:.0} by the picture, at {mapped:.1} by RTP and RTCP");
        assert!((mapped - captured).abs() < 3.0, "picture {captured}, RTP and RTCP {mapped}");
        while client.frame_within(Duration::ZERO).map(|frame| burnt_in(&mut decoder, &frame)).is_some() {}
    }
}

#[test]
fn receiver_reports_reach_the_statistics() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let time = until("a round trip", || {
        client.frame();
        server.metrics().series("lenscast_viewer_round_trip_seconds").next().map(|(_, time)| time)
    });
    assert!((0.0..1.0).contains(&time), "{time} s over the loopback");
    let metrics = server.metrics();
    assert_eq!(metrics.series("lenscast_viewer_fraction_lost").next().map(|(_, lost)| lost), Some(0.0));
}

#[test]
fn two_workers_share_the_viewers_and_all_play() {
    let server = Server::ready(&format!("[webrtc]\nworkers = 2\n{CAMERA}"));
    let mut clients: Vec<Client> = Vec::new();
    let used = |server: &Server| {
        let metrics = server.metrics();
        let workers: BTreeSet<String> = metrics
            .series("lenscast_udp_sent_total")
            .filter(|(_, sent)| *sent > 0.0)
            .map(|(labels, _)| labels["worker"].clone())
            .collect();
        workers.len()
    };
    // The kernel spreads viewers by their addresses: with each of them the odds double that both workers have some.
    while clients.len() < 4 || used(&server) < 2 {
        assert!(clients.len() < 24, "{} viewers are on one worker", clients.len());
        let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
        client.frame();
        clients.push(client);
    }
    for client in &mut clients {
        let mut decoder_input = Vec::new();
        for _ in 0..10 {
            decoder_input.push(client.frame());
        }
        assert!(decoder_input.is_sorted_by_key(|frame| frame.first));
    }
    let metrics = server.metrics();
    assert_eq!(metrics.connected(), clients.len() as f64);
    assert_eq!(metrics.sum("lenscast_track_encoders_built_total"), 1.0, "encoded once for all workers");
    // Whoever's session is on the other worker than asked can be ended all the same.
    for client in &clients {
        assert_eq!(client.delete().status, 200);
    }
    assert_eq!(server.metrics().connected(), 0.0);
}

#[test]
fn a_restart_of_ice_keeps_the_stream() {
    let server = Server::ready(&format!("[webrtc]\nconsent_timeout_s = 2\n{CAMERA}"));
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut decoder = Decoder::new(Codec::Vp8);
    for _ in 0..5 {
        burnt_in(&mut decoder, &client.frame());
    }
    let (etag, before) = (client.etag.clone(), Answer::parse(&client.answer));
    let reply = client.restart_ice("*");
    assert_eq!(reply.status, 200, "{reply:?}");
    let after = Answer::parse(&client.answer);
    assert!(after.ufrag != before.ufrag && after.password != before.password && client.etag != etag);
    // Past the consent timeout: if the new credentials did not work, the session would be gone by then.
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        // Sequence, decoder and numbers go on: it is the same stream.
        burnt_in(&mut decoder, &client.frame());
    }
    assert_eq!(server.http.get(&client.session).header("etag"), Some(&*client.etag));
    assert_eq!(server.metrics().connected(), 1.0);
}

#[test]
fn a_restart_that_the_viewer_never_takes_up_changes_nothing() {
    let server = Server::ready(&format!("[webrtc]\nconsent_timeout_s = 2\n{CAMERA}"));
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    for number in 0..10 {
        let fragment = support::offer::fragment(&format!("fresh{number}"));
        let headers = [("Content-Type", "application/trickle-ice-sdpfrag"), ("If-Match", "*")];
        assert_eq!(server.http.call("PATCH", &client.session, &headers, &fragment).status, 200);
    }
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        client.frame();
    }
    assert_eq!(server.metrics().connected(), 1.0);
}

#[test]
fn a_viewer_whose_consent_is_lost_is_gone_and_its_series_too() {
    let server = Server::ready(&format!("[webrtc]\nconsent_timeout_s = 2\n{CAMERA}"));
    let (mut client, relay) = play_through_relay(&server, &Options::default());
    client.frame();
    assert!(!server.metrics().names_with("session").is_empty());
    relay.cut();
    server
        .metrics_until("the viewer to be given up", |metrics| (metrics.closed("consent_expired") == 1.0).then_some(()));
    let metrics = server.metrics();
    assert_eq!((metrics.connected(), metrics.names_with("session").len()), (0.0, 0));
    assert_eq!(server.http.get(&client.session).status, 404);
    // And the camera stops encoding, since nobody watches.
    let unwanted = metrics.sum("lenscast_track_frames_unwanted_total");
    server.metrics_until("frames that nobody wants", |metrics| {
        (metrics.sum("lenscast_track_frames_unwanted_total") > unwanted).then_some(())
    });
}

#[test]
fn a_viewer_that_closes_its_connection_is_gone_at_once() {
    let server = Server::ready(CAMERA);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    client.frame();
    client.close();
    // Far before the 30 s after which consent would have expired.
    server.metrics_until("the goodbye", |metrics| (metrics.closed("peer_closed") == 1.0).then_some(()));
    assert_eq!(server.metrics().connected(), 0.0);
}

/// Reads what the viewer is sent from now on until it has been told goodbye, by RTCP and by DTLS.
fn expect_goodbye(client: &mut Client, relay: &Relay) {
    let media = client.streams.media;
    client.until("the goodbye", |event| match event {
        Event::Rtcp(packets) => {
            let goodbyes = packets.iter().filter_map(|packet| packet.as_any().downcast_ref::<Goodbye>());
            goodbyes.flat_map(|goodbye| &goodbye.sources).any(|source| *source == media).then_some(())
        }
        _ => None,
    });
    // An alert (RFC 5246 §6.2.1) in epoch 1, hence encrypted. What it says shows in the viewer's reaction: it answers a
    // close_notify with its own (§7.2.1), and nothing else with any.
    let alert = |bytes: &[u8]| bytes.len() > 13 && bytes[0] == 21 && bytes[3..5] == [0, 1];
    let (mut told, mut answered) = (false, false);
    until("the end of DTLS", || {
        for datagram in relay.recorded().iter().filter(|datagram| alert(&datagram.bytes)) {
            told |= datagram.from_server;
            answered |= told && !datagram.from_server;
        }
        answered.then_some(())
    });
}

fn play_through_relay(server: &Server, options: &Options<'_>) -> (Client, Relay) {
    let probe =
        server.http.call("POST", "/whep/front", &[("Content-Type", "application/sdp")], &support::offer::offer());
    let address = Answer::parse(&probe.body).candidates[0];
    server.http.call("DELETE", probe.header("location").unwrap(), &[], "");
    let relay = Relay::to(address, 1);
    relay.record();
    let options = Options {
        via: Some(relay.address()),
        profiles: options.profiles.clone(),
        offer: options.offer,
        at: options.at,
    };
    (Client::play_with(&server.http, "/whep/front", Codec::Vp8, &options), relay)
}

#[test]
fn a_server_that_stops_says_goodbye_by_rtcp_and_dtls() {
    let mut server = Server::ready(CAMERA);
    let (mut client, relay) = play_through_relay(&server, &Options::default());
    client.frame();
    server.signal(Signal::TERM);
    expect_goodbye(&mut client, &relay);
    assert!(server.wait().success());
}

#[test]
fn a_deleted_session_says_goodbye_by_rtcp_and_dtls() {
    let server = Server::ready(CAMERA);
    let (mut client, relay) = play_through_relay(&server, &Options::default());
    client.frame();
    assert_eq!(client.delete().status, 200);
    expect_goodbye(&mut client, &relay);
}

#[test]
fn a_wrong_fingerprint_in_the_offer_gets_no_media() {
    let server = Server::ready(CAMERA);
    let tamper = |offer: String| {
        let fingerprint = value(&offer, "a=fingerprint:sha-256 ").expect("it has one").to_owned();
        let other = format!("{}{}", if fingerprint.starts_with("00") { "11" } else { "00" }, &fingerprint[2..]);
        offer.replace(&fingerprint, &other)
    };
    let options = Options { offer: Some(&tamper), ..Options::default() };
    let (mut client, _relay) = play_through_relay(&server, &options);
    server.metrics_until("the handshake to fail", |metrics| (metrics.closed("dtls_failed") == 1.0).then_some(()));
    assert!(client.frame_within(Duration::ZERO).is_none(), "no media");
    assert_eq!(client.received().media, 0);
    assert_eq!(server.http.get(&client.session).status, 404);
    assert_eq!(server.metrics().connected(), 0.0);
}

/// Plays a layer and returns the size of its pictures once they come.
fn size_of(server: &Server, path: &str, codec: Codec) -> (u32, u32) {
    let mut client = Client::play(&server.http, path, codec);
    let mut decoder = Decoder::new(codec);
    let sizes: BTreeSet<(u32, u32)> = (0..10)
        .map(|_| {
            let resolution = decoder.decode(&client.frame().data).resolution();
            (resolution.width(), resolution.height())
        })
        .collect();
    assert_eq!(sizes.len(), 1, "{path}: {sizes:?}");
    sizes.into_iter().next().expect("there is one")
}

#[test]
fn each_spatial_layer_is_played_in_its_own_size_and_the_largest_if_none_is_asked_for() {
    for codec in ["vp8", "vp9", "h264"] {
        let camera = camera_of(codec).replace("width = 320\nheight = 240", "width = 640\nheight = 480");
        let server = Server::ready(&format!("{camera}layers = 3\n"));
        let kind = match codec {
            "vp8" => Codec::Vp8,
            "vp9" => Codec::Vp9,
            _ => Codec::H264,
        };
        let size = |query: &str| size_of(&server, &format!("/whep/{codec}{query}"), kind);
        assert_eq!(size("?layer=0"), (160, 120), "{codec}");
        assert_eq!(size("?layer=1"), (320, 240), "{codec}");
        assert_eq!([size("?layer=2"), size("")], [(640, 480); 2], "{codec}");
    }
}

#[test]
fn a_viewer_goes_over_to_a_smaller_layer_when_its_own_is_given_no_bits_and_comes_back() {
    let camera = CAMERA.replace("width = 320\nheight = 240", "width = 640\nheight = 480");
    let server = Server::ready(&format!("{camera}layers = 2\n"));
    // Were the large layer the only one that is wanted, it would get what there is.
    let _other = Client::play(&server.http, "/whep/front?layer=0", Codec::Vp8);
    let mut client = Client::play(&server.http, "/whep/front", Codec::Vp8);
    let mut decoder = Decoder::new(Codec::Vp8);
    let mut time_until = |width: u32| {
        let begun = Instant::now();
        while decoder.decode(&client.frame().data).resolution().width() != width {
            assert!(begun.elapsed() < BOUND, "not {width} wide after {:?}", begun.elapsed());
        }
        begun.elapsed()
    };
    time_until(640);
    let mut times = Vec::new();
    for _ in 0..3 {
        for (total, width) in [("100", 320), ("null", 640)] {
            let body = format!("{{\"totalKbps\": {total}}}");
            let reply = server.http.call("PUT", "/api/v1/allocation", &[("Content-Type", "application/json")], &body);
            assert_eq!(reply.status, 200, "{reply:?}");
            times.push((width, time_until(width)));
        }
    }
    println!("{times:?}");
}

#[test]
fn a_layer_that_nobody_watches_is_not_encoded() {
    let server = Server::ready(&format!("{CAMERA}layers = 2\n"));
    let mut client = Client::play(&server.http, "/whep/front?layer=0", Codec::Vp8);
    for _ in 0..10 {
        client.frame();
    }
    // A frame is counted once it has been handed on: its viewer may be faster.
    let camera = until("ten frames to be counted", || {
        let camera = server.http.get("/api/v1/cameras/front").json();
        (camera["encoder"]["layers"][0]["framesEncoded"].as_u64() >= Some(10)).then_some(camera)
    });
    assert_eq!(camera["encoder"]["layers"][1]["framesEncoded"], 0, "{camera}");
    assert_eq!((&camera["viewers"][0]["layer"], &camera["viewerCount"]), (&0.into(), &1.into()));
    let sent = server.metrics().sum_where("lenscast_viewer_packets_sent_total", "camera", "front");
    assert!(sent >= 10.0, "its viewer is the camera's: {sent}");
}
