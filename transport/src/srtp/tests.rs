//! Against another stack's implementation.

use lenscast_media::Ssrc;
use lenscast_router::{PacketLayout, Stamps};
use proptest::prelude::*;
use rtc_srtp::context::Context;
use rtc_srtp::protection_profile::ProtectionProfile as OracleProfile;

use super::*;

const PROFILES: [(ProtectionProfile, OracleProfile); 4] = [
    (ProtectionProfile::AeadAes128Gcm, OracleProfile::AeadAes128Gcm),
    (ProtectionProfile::AeadAes256Gcm, OracleProfile::AeadAes256Gcm),
    (ProtectionProfile::Aes128CmHmacSha1_80, OracleProfile::Aes128CmHmacSha1_80),
    (ProtectionProfile::Aes128CmHmacSha1_32, OracleProfile::Aes128CmHmacSha1_32),
];

fn material(profile: ProtectionProfile) -> Vec<u8> {
    (0..profile.keying_material_len()).map(|byte| (byte as u8).wrapping_mul(7)).collect()
}

fn ours(profile: ProtectionProfile) -> (SrtpSender, SrtpReceiver) {
    server_keys(profile, &material(profile)).unwrap()
}

/// Another stack's contexts for the other side: one to open what we seal, one to seal what we open.
fn oracle(profile: ProtectionProfile, oracle: OracleProfile) -> (Context, Context) {
    let material = material(profile);
    let (key_len, salt_len) = (profile.key_len(), profile.salt_len());
    let (keys, salts) = material.split_at(2 * key_len);
    let provider = rtc_crypto::default_provider().unwrap();
    let context = |server: usize| {
        let key = &keys[server * key_len..][..key_len];
        let salt = &salts[server * salt_len..][..salt_len];
        Context::new(key, salt, oracle, None, None, provider.crypto()).unwrap()
    };
    (context(1), context(0))
}

fn rtp_packet(index: u64, payload: &[u8]) -> (Vec<u8>, PacketLayout) {
    let mut packet = vec![0x80, 96, 0, 0, 1, 2, 3, 4, 0, 0, 0, 42];
    packet[2..4].copy_from_slice(&(index as u16).to_be_bytes());
    packet.extend_from_slice(payload);
    (packet, PacketLayout { header_len: 12, ssrc: Ssrc(42), index, stamps: Stamps::default() })
}

fn sealed(sender: &SrtpSender, index: u64) -> Vec<u8> {
    let (mut packet, layout) = rtp_packet(index, &[7; 100]);
    sender.seal_rtp(&mut packet, 0, &layout);
    packet
}

/// Both ends of a session, of which the client's sends.
fn client_and_server(profile: ProtectionProfile) -> (SrtpSender, SrtpReceiver) {
    let (sender, _) = client_keys(profile, &material(profile)).unwrap();
    (sender, ours(profile).1)
}

fn receiver_report(ssrc: u32) -> Vec<u8> {
    let mut packet = vec![0x80, 201, 0, 1];
    packet.extend_from_slice(&ssrc.to_be_bytes());
    packet
}

#[test]
fn another_stack_opens_rtp_across_the_rollover() {
    for (profile, oracle_profile) in PROFILES {
        let (sender, _) = ours(profile);
        let (mut opener, _) = oracle(profile, oracle_profile);
        for index in 65_000..66_500_u64 {
            let payload: Vec<u8> = (0..index % 1_200).map(|byte| byte as u8).collect();
            let (plain, layout) = rtp_packet(index, &payload);
            let mut buffer = vec![0xAA; 5];
            buffer.extend_from_slice(&plain);
            sender.seal_rtp(&mut buffer, 5, &layout);
            assert_eq!(buffer[..5], [0xAA; 5]);
            assert_eq!(opener.decrypt_rtp(&buffer[5..]).unwrap(), plain, "{profile:?} index {index}");
            let mut packet = plain.clone();
            packet[layout.header_len..].fill(0);
            packet.resize(buffer.len() - 5, 0);
            sender.rtp().seal_into(&payload, &mut packet, &layout);
            assert_eq!(packet, buffer[5..], "from one place to another");
        }
    }
}

#[test]
fn opens_rtp_of_another_stack_once_and_across_rollovers() {
    for (profile, oracle_profile) in PROFILES {
        let (_, mut receiver) = ours(profile);
        let (_, mut sealer) = oracle(profile, oracle_profile);
        for index in (30_000..200_000_u64).step_by(7) {
            let payload: Vec<u8> = (0..index % 1_200).map(|byte| byte as u8).collect();
            let (plain, _) = rtp_packet(index, &payload);
            let sealed = sealer.encrypt_rtp(&plain).unwrap();
            assert_eq!(receiver.open_rtp(&mut sealed.to_vec()).unwrap(), plain, "{profile:?} index {index}");
            let mut sealed = sealed.to_vec();
            let again = receiver.open_rtp(&mut sealed);
            assert_eq!(again, Err(OpenSrtpError::Replay { ssrc: Ssrc(42), sequence: index as u16 }));
        }
    }
}

#[test]
fn opens_rtp_with_contributing_sources_and_an_extension() {
    for (profile, oracle_profile) in PROFILES {
        let (_, mut receiver) = ours(profile);
        let (_, mut sealer) = oracle(profile, oracle_profile);
        let mut plain = vec![0x92, 96, 0, 9, 1, 2, 3, 4, 0, 0, 0, 42, 0, 0, 0, 1, 0, 0, 0, 2];
        plain.extend_from_slice(&[0xBE, 0xDE, 0, 1, 0x10, 0xFF, 0, 0]);
        plain.extend_from_slice(b"payload");
        let sealed = sealer.encrypt_rtp(&plain).unwrap();
        assert_eq!(receiver.open_rtp(&mut sealed.to_vec()).unwrap(), plain, "{profile:?}");
    }
}

#[test]
fn what_one_side_seals_the_other_opens() {
    for (profile, _) in PROFILES {
        let (mut sender, mut receiver) = client_and_server(profile);
        let (local, remote) = (vec![1; profile.master_key_len()], vec![2; profile.master_key_len()]);
        let (mut direct, _) = master_keys(profile, &local, &remote).unwrap();
        let (_, mut opener) = master_keys(profile, &remote, &local).unwrap();
        assert_eq!(receiver.open_rtp(&mut sealed(&sender, 5)).unwrap().len(), 112);
        assert_eq!(opener.open_rtp(&mut sealed(&direct, 5)).unwrap().len(), 112);
        assert_eq!(opener.open_rtp(&mut sealed(&sender, 6)), Err(OpenSrtpError::NotAuthentic), "other keys");
        for (sender, receiver) in [(&mut sender, &mut receiver), (&mut direct, &mut opener)] {
            let mut report = receiver_report(3);
            sender.seal_rtcp(&mut report);
            assert_eq!(receiver.open_rtcp(&mut report).unwrap(), receiver_report(3));
        }
    }
}

#[test]
fn reordered_rtp_is_accepted_within_the_window_across_a_rollover() {
    for (profile, _) in PROFILES {
        let (sender, mut receiver) = client_and_server(profile);
        for index in [65_500, 65_540, 65_530, 65_600, 65_535, 66_500] {
            assert!(receiver.open_rtp(&mut sealed(&sender, index)).is_ok(), "{index}");
        }
        assert!(receiver.open_rtp(&mut sealed(&sender, 65_531)).is_ok(), "969 behind");
        let mut old = sealed(&sender, 65_400);
        let too_old = receiver.open_rtp(&mut old);
        assert_eq!(too_old, Err(OpenSrtpError::Replay { ssrc: Ssrc(42), sequence: 65_400 }), "1,100 behind");
    }
}

#[test]
fn a_forged_sequence_number_does_not_move_the_rollover_counter() {
    for (profile, _) in PROFILES {
        let (sender, mut receiver) = client_and_server(profile);
        assert!(receiver.open_rtp(&mut sealed(&sender, 60_000)).is_ok());
        // Authentic under a rollover counter that this receiver does not expect, and forged outright.
        for index in [100, 65_536 * 5 + 60_010] {
            assert_eq!(receiver.open_rtp(&mut sealed(&sender, index)), Err(OpenSrtpError::NotAuthentic));
        }
        for sequence in (0..65_536_u32).step_by(997) {
            let mut forged = sealed(&sender, 60_001);
            forged[2..4].copy_from_slice(&(sequence as u16).to_be_bytes());
            assert!(receiver.open_rtp(&mut forged).is_err());
        }
        assert!(receiver.open_rtp(&mut sealed(&sender, 60_001)).is_ok());
    }
}

#[test]
fn what_comes_before_the_streams_beginning_is_refused() {
    let (sender, mut receiver) = client_and_server(ProtectionProfile::AeadAes128Gcm);
    assert!(receiver.open_rtp(&mut sealed(&sender, 10)).is_ok());
    let mut before = sealed(&sender, 65_530);
    let early = receiver.open_rtp(&mut before);
    assert_eq!(early, Err(OpenSrtpError::Replay { ssrc: Ssrc(42), sequence: 65_530 }));
}

#[test]
fn forged_and_cut_rtp_is_refused_and_leaves_nothing_behind() {
    for (profile, oracle_profile) in PROFILES {
        let (_, mut receiver) = ours(profile);
        let (_, mut sealer) = oracle(profile, oracle_profile);
        let sealed = sealer.encrypt_rtp(&rtp_packet(9, b"some payload").0).unwrap().to_vec();
        for position in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[position] ^= 1;
            assert!(receiver.open_rtp(&mut forged).is_err(), "{profile:?} byte {position}");
            assert!(receiver.open_rtp(&mut sealed[..position].to_vec()).is_err(), "{profile:?} cut at {position}");
        }
        assert_eq!(receiver.sources(), 0);
        assert!(receiver.open_rtp(&mut sealed.clone()).is_ok());
    }
}

#[test]
fn the_number_of_rtp_sources_is_bounded() {
    let (sender, mut receiver) = client_and_server(ProtectionProfile::AeadAes128Gcm);
    let packet = |ssrc: u32| {
        let (mut packet, layout) = rtp_packet(1, &[0; 10]);
        packet[8..12].copy_from_slice(&ssrc.to_be_bytes());
        sender.seal_rtp(&mut packet, 0, &PacketLayout { ssrc: Ssrc(ssrc), ..layout });
        packet
    };
    // From both ends, so that the order of arrival is not that of the sources.
    for ssrc in (0..150).flat_map(|step| [step, u32::MAX - step]).take(256) {
        assert!(receiver.open_rtp(&mut packet(ssrc)).is_ok());
    }
    assert_eq!(receiver.open_rtp(&mut packet(1_000)), Err(OpenSrtpError::TooManySources));
    assert!(matches!(receiver.open_rtp(&mut packet(5)), Err(OpenSrtpError::Replay { .. })), "those known stay so");
}

#[test]
fn another_stack_opens_rtcp() {
    for (profile, oracle_profile) in PROFILES {
        let (mut sender, _) = ours(profile);
        let (mut opener, _) = oracle(profile, oracle_profile);
        for ssrc in [1, 2, 1] {
            let mut packet = receiver_report(ssrc);
            packet.extend_from_slice(&[0x80, 200, 0, 0]);
            let plain = packet.clone();
            sender.seal_rtcp(&mut packet);
            assert_eq!(opener.decrypt_rtcp(&packet).unwrap(), plain, "{profile:?}");
        }
    }
}

#[test]
fn opens_rtcp_of_another_stack_once() {
    for (profile, oracle_profile) in PROFILES {
        let (_, mut receiver) = ours(profile);
        let (_, mut sealer) = oracle(profile, oracle_profile);
        for _ in 0..200 {
            let plain = receiver_report(7);
            let sealed = sealer.encrypt_rtcp(&plain).unwrap();
            assert_eq!(receiver.open_rtcp(&mut sealed.to_vec()).unwrap(), plain);
            assert!(matches!(receiver.open_rtcp(&mut sealed.to_vec()), Err(OpenSrtcpError::Replay { .. })));
        }
    }
}

#[test]
fn forged_and_cut_rtcp_is_refused_and_leaves_nothing_behind() {
    for (profile, oracle_profile) in PROFILES {
        let (_, mut receiver) = ours(profile);
        let (_, mut sealer) = oracle(profile, oracle_profile);
        let sealed = sealer.encrypt_rtcp(&receiver_report(7)).unwrap().to_vec();
        for position in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[position] ^= 1;
            assert!(receiver.open_rtcp(&mut forged).is_err(), "{profile:?} byte {position}");
            assert!(receiver.open_rtcp(&mut sealed[..position].to_vec()).is_err());
        }
        assert_eq!(receiver.sources(), 0);
        assert!(receiver.open_rtcp(&mut sealed.clone()).is_ok());
    }
}

#[test]
fn the_number_of_rtcp_sources_is_bounded() {
    let (profile, oracle_profile) = PROFILES[0];
    let (_, mut receiver) = ours(profile);
    let (_, mut sealer) = oracle(profile, oracle_profile);
    for ssrc in 0..50 {
        let mut sealed = sealer.encrypt_rtcp(&receiver_report(ssrc)).unwrap().to_vec();
        assert_eq!(receiver.open_rtcp(&mut sealed).is_ok(), ssrc < 32);
    }
}

proptest! {
    #[test]
    fn garbage_is_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..200), rtp: bool) {
        if let Some(first) = bytes.first_mut().filter(|_| rtp) {
            *first = 0x80 | *first & 0x3F;
        }
        for (profile, _) in PROFILES {
            let (_, mut receiver) = ours(profile);
            prop_assert!(receiver.open_rtp(&mut bytes.clone()).is_err());
            prop_assert!(receiver.open_rtcp(&mut bytes.clone()).is_err());
        }
    }
}
