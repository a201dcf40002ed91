//! The ciphers of each profile, and the derivation of their session keys.

use aws_lc_rs::aead::{self, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{self, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;
use lenscast_media::Ssrc;
use thiserror::Error;

use super::{SRTCP_HEADER, SrtpReceiver, SrtpSender};

/// How packets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtectionProfile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 §14.2).
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714 §14.2): for plain transports, DTLS does not agree on it.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2).
    Aes128CmHmacSha1_80,
    /// `SRTP_AES128_CM_HMAC_SHA1_32` (RFC 5764 §4.1.2): for plain transports, DTLS does not agree on it. Its short tag is
    /// RTP's alone: RTCP has 80 bits (RFC 4568 §6.2.2).
    Aes128CmHmacSha1_32,
}

impl ProtectionProfile {
    /// Every profile.
    pub const ALL: [Self; 4] =
        [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::Aes128CmHmacSha1_80, Self::Aes128CmHmacSha1_32];

    /// Bytes of the DTLS exporter that make up both sides' keys and salts (RFC 5764 §4.2).
    #[must_use]
    pub const fn keying_material_len(self) -> usize {
        2 * self.master_key_len()
    }

    /// Bytes of one side's master key with its salt behind it.
    #[must_use]
    pub const fn master_key_len(self) -> usize {
        self.key_len() + self.salt_len()
    }

    pub(super) const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    pub(super) const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmHmacSha1_80 | Self::Aes128CmHmacSha1_32 => 14,
        }
    }

    const fn tag_len(self, use_of: Use) -> usize {
        match (self, use_of) {
            (Self::AeadAes128Gcm | Self::AeadAes256Gcm, _) => MAX_TAG,
            (Self::Aes128CmHmacSha1_80, _) | (Self::Aes128CmHmacSha1_32, Use::Rtcp) => 10,
            (Self::Aes128CmHmacSha1_32, Use::Rtp) => 4,
        }
    }
}

/// Why keys could not be set up.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SrtpKeyError {
    /// The keys with their salts have the wrong length.
    #[error("SRTP keying material is {actual} bytes, {expected} are needed")]
    Length {
        /// What the profile needs.
        expected: usize,
        /// What there was.
        actual: usize,
    },
}

/// Both directions of one session, from the DTLS exporter's output (RFC 5764 §4.2), for the side that was the DTLS
/// server.
///
/// # Errors
///
/// If `material` is not [`ProtectionProfile::keying_material_len`] bytes long.
pub fn server_keys(profile: ProtectionProfile, material: &[u8]) -> Result<(SrtpSender, SrtpReceiver), SrtpKeyError> {
    let [client, server] = exported(profile, material)?;
    Ok((SrtpSender::new(profile, server), SrtpReceiver::new(profile, client)))
}

/// The same for the side that was the DTLS client.
///
/// # Errors
///
/// If `material` is not [`ProtectionProfile::keying_material_len`] bytes long.
pub fn client_keys(profile: ProtectionProfile, material: &[u8]) -> Result<(SrtpSender, SrtpReceiver), SrtpKeyError> {
    let [client, server] = exported(profile, material)?;
    Ok((SrtpSender::new(profile, client), SrtpReceiver::new(profile, server)))
}

/// Both directions of one session whose keys were agreed on outside: of each side its master key and behind it its salt,
/// as RFC 4568 §6.1 concatenates them.
///
/// # Errors
///
/// If one is not [`ProtectionProfile::master_key_len`] bytes long.
pub fn master_keys(
    profile: ProtectionProfile,
    local: &[u8],
    remote: &[u8],
) -> Result<(SrtpSender, SrtpReceiver), SrtpKeyError> {
    let master = |material: &'_ [u8]| check_len(profile.master_key_len(), material);
    master(local)?;
    master(remote)?;
    let split = |material| MasterKey::split(profile, material);
    Ok((SrtpSender::new(profile, split(local)), SrtpReceiver::new(profile, split(remote))))
}

fn exported(profile: ProtectionProfile, material: &[u8]) -> Result<[MasterKey<'_>; 2], SrtpKeyError> {
    check_len(profile.keying_material_len(), material)?;
    let (keys, salts) = material.split_at(2 * profile.key_len());
    let (client_key, server_key) = keys.split_at(profile.key_len());
    let (client_salt, server_salt) = salts.split_at(profile.salt_len());
    Ok([MasterKey { key: client_key, salt: client_salt }, MasterKey { key: server_key, salt: server_salt }])
}

fn check_len(expected: usize, material: &[u8]) -> Result<(), SrtpKeyError> {
    if material.len() == expected { Ok(()) } else { Err(SrtpKeyError::Length { expected, actual: material.len() }) }
}

/// A master key and salt of the lengths that its profile wants.
#[derive(Clone, Copy)]
pub(super) struct MasterKey<'a> {
    pub(super) key: &'a [u8],
    pub(super) salt: &'a [u8],
}

impl<'a> MasterKey<'a> {
    fn split(profile: ProtectionProfile, material: &'a [u8]) -> Self {
        let (key, salt) = material.split_at(profile.key_len());
        Self { key, salt }
    }
}

/// All transforms' longest tag: AES-GCM's 128 bits.
const MAX_TAG: usize = 16;

/// What a session key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Rtp,
    Rtcp,
}

impl Use {
    /// Labels of key derivation (RFC 3711 §4.3.2): encryption, authentication, salt.
    const fn labels(self) -> [u8; 3] {
        match self {
            Self::Rtp => [0, 1, 2],
            Self::Rtcp => [3, 4, 5],
        }
    }
}

/// A session's cipher with its keys, for RTP or for RTCP.
pub(super) enum Transform {
    Gcm(Gcm),
    /// Boxed: its two keys take 1.7 KB, of every session's 2 KB.
    Cm(Box<CounterModeWithHmac>),
}

pub(super) struct Gcm {
    key: LessSafeKey,
    salt: [u8; 12],
}

pub(super) struct CounterModeWithHmac {
    key: CounterMode,
    auth: hmac::Key,
    salt: [u8; 14],
    tag_len: usize,
}

impl Transform {
    pub(super) fn new(profile: ProtectionProfile, master: MasterKey<'_>, use_of: Use) -> Self {
        let prf = CounterMode::new(master.key);
        let [encryption, authentication, salting] = use_of.labels();
        let mut key = [0; 32];
        let key = &mut key[..profile.key_len()];
        prf.derive(master.salt, encryption, key);
        match profile {
            ProtectionProfile::AeadAes128Gcm | ProtectionProfile::AeadAes256Gcm => {
                let mut salt = [0; 12];
                prf.derive(master.salt, salting, &mut salt);
                Self::Gcm(Gcm::new(key, salt))
            }
            ProtectionProfile::Aes128CmHmacSha1_80 | ProtectionProfile::Aes128CmHmacSha1_32 => {
                let (mut auth, mut salt) = ([0; 20], [0; 14]);
                prf.derive(master.salt, authentication, &mut auth);
                prf.derive(master.salt, salting, &mut salt);
                let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth);
                let tag_len = profile.tag_len(use_of);
                Self::Cm(Box::new(CounterModeWithHmac { key: CounterMode::new(key), auth, salt, tag_len }))
            }
        }
    }

    pub(super) const fn tag_len(&self) -> usize {
        match self {
            Self::Gcm(_) => MAX_TAG,
            Self::Cm(cm) => cm.tag_len,
        }
    }
}

impl Gcm {
    pub(super) fn new(key: &[u8], salt: [u8; 12]) -> Self {
        let algorithm = if key.len() == 32 { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).expect("the key has AES-128's or AES-256's length");
        Self { key: LessSafeKey::new(key), salt }
    }

    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], data: &mut [u8]) -> aead::Tag {
        self.key
            .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), data)
            .expect("a packet is far below AES-GCM's limit of 64 GiB")
    }

    /// The same from one place to another. `sealed` is as long as `plain`, and `tag` has its length.
    pub(super) fn seal_into(&self, nonce: [u8; 12], aad: &[u8], plain: &[u8], sealed: &mut [u8], tag: &mut [u8]) {
        self.key
            .seal_out_of_place_scatter(Nonce::assume_unique_for_key(nonce), Aad::from(aad), plain, sealed, &[], tag)
            .expect("the lengths fit, and a packet is far below AES-GCM's limit of 64 GiB");
    }

    /// Decrypts `sealed`, whose last bytes are the tag. False if it is not authentic.
    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], sealed: &mut [u8]) -> bool {
        self.key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), sealed).is_ok()
    }

    /// RFC 7714 §8.1: zeros, SSRC, rollover counter, sequence number.
    pub(super) fn rtp_nonce(&self, ssrc: Ssrc, index: u64) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.0.to_be_bytes());
        iv[6..12].copy_from_slice(&index.to_be_bytes()[2..]);
        xor(iv, &self.salt)
    }

    /// RFC 7714 §9.1: zeros, SSRC, zeros, index.
    pub(super) fn rtcp_nonce(&self, ssrc: Ssrc, index: u32) -> [u8; 12] {
        let mut iv = [0; 12];
        iv[2..6].copy_from_slice(&ssrc.0.to_be_bytes());
        iv[8..12].copy_from_slice(&index.to_be_bytes());
        xor(iv, &self.salt)
    }
}

/// RFC 7714 §9.2: what stays readable of the packet, and the index with its E bit.
pub(super) fn srtcp_aad(header: &[u8], index_word: [u8; 4]) -> [u8; 12] {
    let mut aad = [0; 12];
    aad[..SRTCP_HEADER].copy_from_slice(header);
    aad[SRTCP_HEADER..].copy_from_slice(&index_word);
    aad
}

impl CounterModeWithHmac {
    /// Encrypts or decrypts: counter mode is its own inverse.
    pub(super) fn apply(&self, ssrc: Ssrc, index: u64, data: &mut [u8]) {
        self.key.apply(counter_block(&self.salt, ssrc, index), data);
    }

    /// RFC 3711 §4.2: over the packet and its rollover counter.
    pub(super) fn rtp_tag(&self, packet: &[u8], rollover: u32) -> Tag {
        let mut context = hmac::Context::with_key(&self.auth);
        context.update(packet);
        context.update(&rollover.to_be_bytes());
        Tag { tag: context.sign(), len: self.tag_len }
    }

    /// Over the packet and its index, which `packet` ends with.
    pub(super) fn rtcp_tag(&self, packet: &[u8]) -> Tag {
        Tag { tag: hmac::sign(&self.auth, packet), len: self.tag_len }
    }
}

/// An HMAC, cut short.
pub(super) struct Tag {
    tag: hmac::Tag,
    len: usize,
}

impl Tag {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.tag.as_ref()[..self.len]
    }

    pub(super) fn fits(&self, received: &[u8]) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.as_bytes(), received).is_ok()
    }
}

/// AES in counter mode: the cipher of two profiles and the key derivation function of all.
struct CounterMode(EncryptingKey);

impl CounterMode {
    fn new(key: &[u8]) -> Self {
        // RFC 6188 §3 has a 256-bit master key derive with AES-256.
        let algorithm = if key.len() == 32 { &cipher::AES_256 } else { &cipher::AES_128 };
        let key = UnboundCipherKey::new(algorithm, key).expect("the key has AES-128's or AES-256's length");
        Self(EncryptingKey::ctr(key).expect("AES has a counter mode"))
    }

    fn apply(&self, counter: [u8; 16], data: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(counter));
        self.0.less_safe_encrypt(data, context).expect("counter mode takes data of any length");
    }

    /// RFC 3711 §4.3.1 with a derivation rate of zero; RFC 7714 §11 pads a 96-bit salt at its end.
    fn derive(&self, master_salt: &[u8], label: u8, out: &mut [u8]) {
        let mut counter = [0; 16];
        counter[..master_salt.len()].copy_from_slice(master_salt);
        counter[7] ^= label;
        out.fill(0);
        self.apply(counter, out);
    }
}

/// RFC 3711 §4.1.1: salt, SSRC and packet index, each at its place, and a block counter from 0.
fn counter_block(salt: &[u8; 14], ssrc: Ssrc, index: u64) -> [u8; 16] {
    let mut block = [0; 16];
    block[..14].copy_from_slice(salt);
    for (byte, value) in block[4..8].iter_mut().zip(ssrc.0.to_be_bytes()) {
        *byte ^= value;
    }
    for (byte, value) in block[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *byte ^= value;
    }
    block
}

fn xor(mut iv: [u8; 12], salt: &[u8; 12]) -> [u8; 12] {
    for (byte, value) in iv.iter_mut().zip(salt) {
        *byte ^= value;
    }
    iv
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    fn derived(master: &str, salt: &str, label: u8, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        CounterMode::new(&hex(master)).derive(&hex(salt), label, &mut out);
        out
    }

    #[test]
    fn keys_are_derived_as_in_rfc_3711_b_3() {
        let (master, salt) = ("E1F97A0D3E018BE0D64FA32C06DE4139", "0EC675AD498AFEEBB6960B3AABE6");
        assert_eq!(derived(master, salt, 0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
        assert_eq!(derived(master, salt, 2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
        assert_eq!(derived(master, salt, 1, 20), hex("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"));
    }

    #[test]
    fn keys_are_derived_as_in_rfc_6188_7_4() {
        let master = "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6";
        let salt = "3b04803de51ee7c96423ab5b78d2";
        let key = "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4";
        assert_eq!(derived(master, salt, 0, 32), hex(key));
        assert_eq!(derived(master, salt, 2, 14), hex("fa31791685ca444a9e07c6c64e93"));
    }

    #[test]
    fn counter_mode_is_that_of_rfc_3711_b_2() {
        let key = CounterMode::new(&hex("2B7E151628AED2A6ABF7158809CF4F3C"));
        let salt: [u8; 14] = hex("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let mut stream = [0; 48];
        key.apply(counter_block(&salt, Ssrc(0), 0), &mut stream);
        assert_eq!(
            stream[..],
            hex("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0")
        );
    }

    /// RFC 7714 §16.1.1 and §16.2.1: the packets of §16.
    #[test]
    fn gcm_seals_and_opens_rfc_7714s_packets() {
        let header = hex("8040f17b8041f8d35501a0b2");
        let plain = hex("47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573");
        let salt: [u8; 12] = hex("517569642070726f2071756f").try_into().unwrap();
        let key: Vec<u8> = (0..32).collect();
        let sealed_128 = "f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7d19b36de3adf8833
            899d7f27beb16a9152cf765ee4390cce";
        let sealed_256 = "32b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ffae0f1ba63799b87b
            7aa3db36dfffd6b0f9bb7878d7a76c13";
        for (len, sealed) in [(16, sealed_128), (32, sealed_256)] {
            let gcm = Gcm::new(&key[..len], salt);
            let nonce = gcm.rtp_nonce(Ssrc(0x5501_a0b2), 0xf17b);
            assert_eq!(nonce[..], hex("51753c6580c2726f20718414"));
            let mut data = plain.clone();
            let tag = gcm.seal(nonce, &header, &mut data);
            data.extend_from_slice(tag.as_ref());
            assert_eq!(data, hex(sealed), "{len}");
            assert!(gcm.open(nonce, &header, &mut data));
            assert_eq!(data[..plain.len()], plain);
        }
    }

    #[test]
    fn keying_material_of_the_wrong_length_is_refused() {
        let Err(error) = server_keys(ProtectionProfile::AeadAes128Gcm, &[0; 55]) else { panic!() };
        assert_eq!(error.to_string(), "SRTP keying material is 55 bytes, 56 are needed");
        let Err(error) = master_keys(ProtectionProfile::AeadAes256Gcm, &[0; 44], &[0; 28]) else { panic!() };
        assert_eq!(error, SrtpKeyError::Length { expected: 44, actual: 28 });
    }
}
