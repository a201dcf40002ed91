//! Cryptography that encrypts nothing, for peers that meet in a simulated network.
//!
//! Real DTLS and SRTP would cost time that no figure wants, and the randomness of certificates and handshakes would come
//! into sizes and times. Sizes stay those of AEAD_AES_128_GCM (RFC 7714, 16 bytes of tag), so that packets are as large
//! as on a real path. Nothing here protects anything, and nothing outside of the simulation may use it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ::str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, KeyingMaterial, ProtocolVersion,
    SrtpProfile,
};
use ::str0m::crypto::{
    AeadAes128Gcm, AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, CryptoProvider,
    Sha1HmacProvider, Sha1Provider, Sha256Provider, SrtpProvider, SupportedAeadAes128Gcm, SupportedAeadAes256Gcm,
    SupportedAes128CmSha1_80,
};

/// Of AEAD_AES_128_GCM.
pub(super) const TAG_LENGTH: usize = AeadAes128Gcm::TAG_LEN;
/// What the two sides say to each other in place of a handshake. The first byte makes it DTLS (RFC 7983).
const HELLO: &[u8] = &[22, 0];
/// Longer than any case.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// Everything that str0m asks of cryptography, without any.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        srtp_provider: &Plain,
        sha1_hmac_provider: &Plain,
        sha1_provider: &Plain,
        sha256_provider: &Plain,
        dtls_provider: &Plain,
    })
}

#[derive(Debug)]
struct Plain;

impl Sha1HmacProvider for Plain {
    fn sha1_hmac(&self, _key: &[u8], _payloads: &[&[u8]]) -> [u8; 20] {
        [0; 20]
    }
}

impl Sha1Provider for Plain {
    fn sha1(&self, _data: &[u8]) -> [u8; 20] {
        [0; 20]
    }
}

impl Sha256Provider for Plain {
    fn sha256(&self, _data: &[u8]) -> [u8; 32] {
        [0; 32]
    }
}

impl SrtpProvider for Plain {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Plain
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Plain
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Plain
    }

    fn srtp_aes_128_ecb_round(&self, _key: &[u8], _input: &[u8], output: &mut [u8]) {
        output.fill(0);
    }

    fn srtp_aes_256_ecb_round(&self, _key: &[u8], _input: &[u8], output: &mut [u8]) {
        output.fill(0);
    }
}

impl SupportedAes128CmSha1_80 for Plain {
    fn create_cipher(&self, _key: [u8; 16], _encrypt: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(Plain)
    }
}

impl SupportedAeadAes128Gcm for Plain {
    fn create_cipher(&self, _key: [u8; 16], _encrypt: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Plain)
    }
}

impl SupportedAeadAes256Gcm for Plain {
    fn create_cipher(&self, _key: [u8; 32], _encrypt: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Plain)
    }
}

impl Aes128CmSha1_80Cipher for Plain {
    fn encrypt(&mut self, _iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        copy(input, output)
    }

    fn decrypt(&mut self, _iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        copy(input, output)
    }
}

impl AeadAes128GcmCipher for Plain {
    fn encrypt(&mut self, _iv: &[u8; 12], _aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        seal(input, output)
    }

    fn decrypt(
        &mut self,
        _iv: &[u8; 12],
        _aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        open(input, output)
    }
}

impl AeadAes256GcmCipher for Plain {
    fn encrypt(&mut self, _iv: &[u8; 12], _aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        seal(input, output)
    }

    fn decrypt(
        &mut self,
        _iv: &[u8; 12],
        _aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        open(input, output)
    }
}

fn seal(input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
    copy(input, output)?;
    output[input.len()..].fill(0);
    Ok(())
}

fn open(input: &[u8], output: &mut [u8]) -> Result<usize, CryptoError> {
    let length = input.len().checked_sub(TAG_LENGTH).ok_or_else(too_short)?;
    copy(&input[..length], output)?;
    Ok(length)
}

fn copy(input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
    output.get_mut(..input.len()).ok_or_else(too_short)?.copy_from_slice(input);
    Ok(())
}

fn too_short() -> CryptoError {
    CryptoError::Other(String::from("too short"))
}

impl DtlsProvider for Plain {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        Some(DtlsCert { certificate: vec![0], private_key: vec![0] })
    }

    fn new_dtls(
        &self,
        _cert: &DtlsCert,
        now: Instant,
        _dtls_version: DtlsVersion,
        _mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        Ok(Box::new(Handshake { active: false, step: Step::Idle, never: now + NEVER }))
    }
}

/// One greeting each way, over a path that loses nothing.
#[derive(Debug)]
struct Handshake {
    active: bool,
    step: Step,
    never: Instant,
}

/// What comes out next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Idle,
    Greet,
    Greeted,
    Certificate,
    Keys,
    Connected,
    Done,
}

impl DtlsInstance for Handshake {
    fn set_active(&mut self, active: bool) {
        self.active = active;
        if active && self.step == Step::Idle {
            self.step = Step::Greet;
        }
    }

    fn handle_packet(&mut self, _packet: &[u8]) -> Result<(), DtlsImplError> {
        match self.step {
            Step::Idle => self.step = Step::Greet,
            Step::Greeted => self.step = Step::Certificate,
            _ => {}
        }
        Ok(())
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        match self.step {
            Step::Greet if buf.len() < HELLO.len() => DtlsOutput::BufferTooSmall { needed: HELLO.len() },
            Step::Greet => {
                self.step = if self.active { Step::Greeted } else { Step::Certificate };
                let record = &mut buf[..HELLO.len()];
                record.copy_from_slice(HELLO);
                DtlsOutput::Packet(record)
            }
            Step::Certificate => {
                self.step = Step::Keys;
                DtlsOutput::PeerCert(&[0])
            }
            Step::Keys => {
                self.step = Step::Connected;
                let profile = SrtpProfile::AEAD_AES_128_GCM;
                DtlsOutput::KeyingMaterial(KeyingMaterial::new(&vec![0; profile.keying_material_len()]), profile)
            }
            Step::Connected => {
                self.step = Step::Done;
                DtlsOutput::Connected
            }
            Step::Idle | Step::Greeted | Step::Done => DtlsOutput::Timeout(self.never),
        }
    }

    fn handle_timeout(&mut self, _now: Instant) -> Result<(), DtlsImplError> {
        Ok(())
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        // No case has a data channel.
        Ok(data.len())
    }

    fn is_active(&self) -> bool {
        self.active
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        None
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        Ok(())
    }
}
