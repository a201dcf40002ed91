use std::fmt;

/// The kinds of RTCP feedback that are understood here (RFC 4585 §4.2, RFC 5104 §7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RtcpFeedback {
    /// Lost packets are named and sent again.
    Nack,
    /// Picture loss indication: asks for a key frame.
    NackPli,
    /// Full intra request: asks for a key frame.
    CcmFir,
    /// The receiver's estimate (draft-alvestrand-rmcat-remb-03).
    GoogRemb,
    /// Arrival times of all packets (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportCc,
}

impl RtcpFeedback {
    /// All of them, in the order in which they are offered.
    pub const ALL: [Self; 5] = [Self::Nack, Self::NackPli, Self::CcmFir, Self::GoogRemb, Self::TransportCc];

    /// Reads what follows the payload type in SDP's `a=rtcp-fb`; `None` for what is not understood here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_ascii_whitespace();
        let (name, parameter) = (words.next()?, words.next().unwrap_or(""));
        let wanted = |known: &Self| {
            let (known_name, known_parameter) = known.as_sdp().split_once(' ').unwrap_or((known.as_sdp(), ""));
            name.eq_ignore_ascii_case(known_name) && parameter.eq_ignore_ascii_case(known_parameter)
        };
        Self::ALL.into_iter().find(wanted).filter(|_| words.next().is_none())
    }

    /// As SDP writes it behind the payload type.
    #[must_use]
    pub const fn as_sdp(self) -> &'static str {
        match self {
            Self::Nack => "nack",
            Self::NackPli => "nack pli",
            Self::CcmFir => "ccm fir",
            Self::GoogRemb => "goog-remb",
            Self::TransportCc => "transport-cc",
        }
    }
}

impl fmt::Display for RtcpFeedback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_sdp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        for feedback in RtcpFeedback::ALL {
            assert_eq!(RtcpFeedback::parse(feedback.as_sdp()), Some(feedback));
        }
        for unknown in ["", "nack sli", "ccm", "ccm tmmbr", "foo FOO", "nack pli more", "pli"] {
            assert_eq!(RtcpFeedback::parse(unknown), None, "{unknown}");
        }
    }
}
