//! A network that loses packets: what is lost is asked for again, sent again and put in its place, so that no frame is
//! missing. And the same in Chromium, whose pictures must not freeze (tests/browser/loss.test.mjs).

mod support;

use std::time::{Duration, Instant};

use lenscast_media::Codec;
use support::answer::Answer;
use support::client::{Client, Options};
use support::offer::offer;
use support::relay::Relay;
use support::server::{Server, camera_of};
use support::wait::BOUND;

/// Of the datagrams, each way.
const LOSS: f64 = 0.05;
/// How long a viewer plays under it.
const LONG: Duration = Duration::from_secs(8);

/// Plays a camera under loss: every frame must come, in order, and those that were hit by the loss through RTX.
fn plays_under_loss(codec: Codec, name: &str, seed: u64) {
    let larger = camera_of(name).replace("320", "640").replace("240", "480").replace("15", "30");
    let server = Server::ready(&format!("{larger}max_kbps = 1500\n"));
    let path = format!("/whep/{name}");
    let probe = server.http.call("POST", &path, &[("Content-Type", "application/sdp")], &offer());
    let relay = Relay::to(Answer::parse(&probe.body).candidates[0], seed);
    server.http.call("DELETE", probe.header("location").unwrap(), &[], "");
    let options = Options { via: Some(relay.address()), ..Options::default() };
    let mut client = Client::play_with(&server.http, &path, codec, &options);
    client.frame();

    let encoded = || server.metrics().sum("lenscast_track_frames_encoded_total") as u32;
    let encoded_before = encoded();
    relay.lose(LOSS);
    let end = Instant::now() + LONG;
    let (mut frames, mut repaired_frames, mut longest) = (0, 0, Duration::ZERO);
    let mut last = Instant::now();
    let mut expected = None;
    while Instant::now() < end {
        let frame = client.frame();
        longest = longest.max(last.elapsed());
        last = Instant::now();
        assert!(expected.is_none_or(|expected| expected == frame.first), "no packet is missing");
        expected = Some(frame.first + frame.packets.len() as u64);
        frames += 1;
        repaired_frames += u32::from(frame.repaired > 0);
    }
    let made = encoded() - encoded_before;
    // What is still on its way must come too, now that nothing is lost any more.
    relay.lose(0.0);
    let settled = Instant::now() + BOUND;
    while client.received().held_back() > 0 {
        assert!(Instant::now() < settled, "{} packets wait for one that never comes", client.received().held_back());
        client.frame();
    }

    let (passed, lost) = relay.counts();
    let metrics = server.metrics();
    let received = client.received();
    println!(
        "{codec}: {lost} of {} datagrams lost; {frames} frames, {repaired_frames} of them repaired, longest wait {longest:?}; \
         {} of {} packets came by RTX, {} more came twice; sent again {}, refused {}",
        passed + lost,
        received.repaired,
        received.media + received.repaired,
        received.superfluous,
        metrics.sum("lenscast_viewer_packets_retransmitted_total"),
        metrics.sum("lenscast_viewer_retransmissions_refused_total"),
    );
    assert!(lost > 50, "the network lost too little to show anything: {lost}");
    assert!(received.repaired > 20 && repaired_frames > 10);
    assert!(frames >= made * 9 / 10, "{frames} of {made} frames in {LONG:?}");
    assert_eq!(metrics.sum("lenscast_viewer_frames_dropped_total"), 0.0, "no frame was given up");
}

#[test]
fn vp8_is_repaired_through_rtx_without_a_missing_frame() {
    plays_under_loss(Codec::Vp8, "vp8", 7);
}

#[test]
fn h264_is_repaired_through_rtx_without_a_missing_frame() {
    plays_under_loss(Codec::H264, "h264", 11);
}

#[test]
fn a_viewer_connects_through_a_network_that_loses_every_fifth_datagram() {
    let server = Server::ready(&camera_of("vp8"));
    let probe = server.http.call("POST", "/whep/vp8", &[("Content-Type", "application/sdp")], &offer());
    let address = Answer::parse(&probe.body).candidates[0];
    for seed in 0..5 {
        let relay = Relay::to(address, seed);
        relay.lose(0.2);
        let options = Options { via: Some(relay.address()), ..Options::default() };
        let began = Instant::now();
        let mut client = Client::play_with(&server.http, "/whep/vp8", Codec::Vp8, &options);
        client.connected();
        println!("seed {seed}: connected after {:?}, {:?} datagrams passed and lost", began.elapsed(), relay.counts());
    }
}
