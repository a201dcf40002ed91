use std::fmt;

use aws_lc_rs::digest;
use thiserror::Error;

/// The hash of a certificate, as SDP carries it (RFC 8122 §5).
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    digest: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// Why an `a=fingerprint` value could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseFingerprintError {
    /// The hash function is unknown, or too weak to be accepted (RFC 8122 §5).
    #[error("fingerprint hash {0:?} is not supported, must be sha-256, sha-384 or sha-512")]
    Hash(String),
    /// The digest is not that many bytes in hexadecimal, joined by colons.
    #[error("fingerprint of {hash} must be {expected} hexadecimal bytes joined by colons")]
    Digest {
        /// The hash function's name.
        hash: &'static str,
        /// Its digest's length in bytes.
        expected: usize,
    },
}

impl Fingerprint {
    /// The SHA-256 fingerprint of a DER-encoded certificate.
    #[must_use]
    pub fn sha256_of(certificate: &[u8]) -> Self {
        Self { hash: Hash::Sha256, digest: Hash::Sha256.digest(certificate) }
    }

    /// Reads the value of an `a=fingerprint` attribute: `<hash> <hex>:<hex>:…`.
    ///
    /// # Errors
    ///
    /// If the hash is not supported or the digest is malformed.
    pub fn parse(value: &str) -> Result<Self, ParseFingerprintError> {
        let (name, text) = value.trim().split_once(' ').unwrap_or((value, ""));
        let hash = Hash::ALL
            .into_iter()
            .find(|hash| hash.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| ParseFingerprintError::Hash(name.chars().take(32).collect()))?;
        let malformed = ParseFingerprintError::Digest { hash: hash.name(), expected: hash.len() };
        let byte = |text: &str| (text.len() == 2).then(|| u8::from_str_radix(text, 16).ok()).flatten();
        let digest: Option<Vec<u8>> = text.trim().split(':').take(hash.len() + 1).map(byte).collect();
        match digest {
            Some(digest) if digest.len() == hash.len() => Ok(Self { hash, digest }),
            _ => Err(malformed),
        }
    }

    /// True if this is the fingerprint of the DER-encoded `certificate`.
    #[must_use]
    pub fn matches(&self, certificate: &[u8]) -> bool {
        self.hash.digest(certificate) == self.digest
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hash.name())?;
        for (position, byte) in self.digest.iter().enumerate() {
            write!(f, "{}{byte:02X}", if position == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Hash {
    const ALL: [Self; 3] = [Self::Sha256, Self::Sha384, Self::Sha512];

    const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, data: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, data).as_ref().to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_it_prints() {
        let fingerprint = Fingerprint::sha256_of(b"certificate");
        assert_eq!(Fingerprint::parse(&fingerprint.to_string()).unwrap(), fingerprint);
        assert_eq!(Fingerprint::parse(&fingerprint.to_string().to_lowercase()).unwrap(), fingerprint);
        assert!(fingerprint.matches(b"certificate") && !fingerprint.matches(b"another"));
    }

    #[test]
    fn says_what_is_wrong() {
        for (value, text) in [
            ("sha-1 AA:BB", "fingerprint hash \"sha-1\" is not supported, must be sha-256, sha-384 or sha-512"),
            ("", "fingerprint hash \"\" is not supported, must be sha-256, sha-384 or sha-512"),
            ("sha-256 AA:BB", "fingerprint of sha-256 must be 32 hexadecimal bytes joined by colons"),
            ("sha-256", "fingerprint of sha-256 must be 32 hexadecimal bytes joined by colons"),
        ] {
            assert_eq!(Fingerprint::parse(value).unwrap_err().to_string(), text);
        }
        let long = format!("sha-256 {}", ["GG"; 32].join(":"));
        assert!(Fingerprint::parse(&long).is_err());
        assert!(Fingerprint::parse(&format!("sha-256 {}", ["é"; 32].join(":"))).is_err());
    }
}
