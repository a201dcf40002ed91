//! `application/trickle-ice-sdpfrag` (RFC 8840 §9): the piece of SDP in which a viewer tells of candidates or of an ICE
//! restart, and our answer to a restart.

use std::fmt::Write as _;

use lenscast_transport::IceRestart;
use thiserror::Error;

/// What a viewer's fragment says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpFragment {
    /// The user fragment it is about.
    pub ufrag: String,
    /// Candidates of the viewer's. How many only: an ICE-lite server has no use for them.
    pub candidates: usize,
}

/// Why a fragment cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseFragmentError {
    /// A line that is not SDP.
    #[error("SDP fragment line {number} is not <letter>=<value>")]
    Line {
        /// Which, from 1.
        number: usize,
    },
    /// No `a=ice-ufrag`, or one that cannot be.
    #[error("SDP fragment must have a=ice-ufrag of 4 to 256 ICE characters")]
    Ufrag,
    /// No `a=ice-pwd`, or one that cannot be.
    #[error("SDP fragment must have a=ice-pwd of 22 to 256 ICE characters")]
    Password,
}

/// The longest fragment that is read, in bytes.
pub const MAX_FRAGMENT_BYTES: usize = 16 * 1024;

impl SdpFragment {
    /// Reads a fragment.
    ///
    /// # Errors
    ///
    /// If it is no SDP, or does not say which ICE session it is about.
    pub fn parse(text: &str) -> Result<Self, ParseFragmentError> {
        let (mut ufrag, mut password, mut candidates) = (None, None, 0);
        for (position, line) in text.lines().enumerate().filter(|(_, line)| !line.is_empty()) {
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
                return Err(ParseFragmentError::Line { number: position + 1 });
            };
            match value.split_once(':') {
                Some(("ice-ufrag", value)) if kind == "a" => ufrag = ufrag.or(Some(value)),
                Some(("ice-pwd", value)) if kind == "a" => password = password.or(Some(value)),
                Some(("candidate", _)) if kind == "a" => candidates += 1,
                _ => {}
            }
        }
        let ufrag = ufrag.filter(|ufrag| is_ice_text(ufrag, 4)).ok_or(ParseFragmentError::Ufrag)?;
        password.filter(|password| is_ice_text(password, 22)).ok_or(ParseFragmentError::Password)?;
        Ok(Self { ufrag: ufrag.to_owned(), candidates })
    }
}

/// RFC 8839 §5.4.
fn is_ice_text(text: &str, min: usize) -> bool {
    (min..=256).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
}

/// Our answer to a restart (RFC 9725 §4.3.3).
#[must_use]
pub fn restart_fragment(restart: &IceRestart, mid: &str) -> String {
    let mut text = format!("a=ice-lite\r\na=group:BUNDLE {mid}\r\nm=video 9 UDP/TLS/RTP/SAVPF 0\r\na=mid:{mid}\r\n");
    let credentials = &restart.credentials;
    write!(text, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", credentials.ufrag, credentials.password())
        .expect("a String takes everything");
    for candidate in &restart.candidates {
        write!(text, "a=candidate:{}\r\n", candidate.to_sdp()).expect("a String takes everything");
    }
    text.push_str("a=end-of-candidates\r\n");
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FRAGMENT: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        m=audio 9 RTP/AVP 0\r\na=mid:0\r\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn reads_the_example_of_rfc_9725() {
        let fragment = SdpFragment::parse(FRAGMENT).unwrap();
        assert_eq!((fragment.ufrag.as_str(), fragment.candidates), ("EsAw", 1));
    }

    #[test]
    fn says_what_is_missing() {
        assert_eq!(SdpFragment::parse(""), Err(ParseFragmentError::Ufrag));
        assert_eq!(SdpFragment::parse("hello"), Err(ParseFragmentError::Line { number: 1 }));
        assert_eq!(SdpFragment::parse("a=ice-ufrag:abcd\r\n"), Err(ParseFragmentError::Password));
        let short = FRAGMENT.replace("EsAw", "abc");
        assert_eq!(SdpFragment::parse(&short), Err(ParseFragmentError::Ufrag));
    }

    proptest! {
        #[test]
        fn garbage_is_read_or_refused(text in "\\PC{0,300}") {
            let _ = SdpFragment::parse(&text);
        }
    }
}
