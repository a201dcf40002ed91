use std::fmt;

/// A transport-wide feedback message (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1): which packets came, and when.
///
/// It borrows the message and has been checked as a whole: every packet that it claims to tell of is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransportFeedback<'a> {
    base_sequence: u16,
    count: u16,
    reference: u32,
    number: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// Why a feedback message can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FeedbackError {
    /// It ends before what it tells of.
    Truncated,
    /// It tells of no packet.
    Empty,
    /// A status has a value that means nothing.
    Reserved,
}

impl fmt::Display for FeedbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Truncated => "the feedback ends before what it tells of",
            Self::Empty => "the feedback tells of no packet",
            Self::Reserved => "a packet's status has a reserved value",
        })
    }
}

impl std::error::Error for FeedbackError {}

/// Base sequence number, count of statuses, reference time, and the count of feedback packets (§3.1).
const HEAD: usize = 8;
/// Ticks of 250 µs (§3.1.5) in a unit of the reference time, 64 ms (§3.1).
pub(super) const REFERENCE_TICKS: i64 = 256;

impl<'a> TransportFeedback<'a> {
    /// Reads what follows the SSRCs of sender and media.
    ///
    /// # Errors
    ///
    /// If it is not such a message. What follows it is not looked at, and neither is what its last chunk tells beyond the count.
    pub fn parse(fci: &'a [u8]) -> Result<Self, FeedbackError> {
        let (head, rest) = fci.split_first_chunk::<HEAD>().ok_or(FeedbackError::Truncated)?;
        let count = u16::from_be_bytes([head[2], head[3]]);
        if count == 0 {
            return Err(FeedbackError::Empty);
        }
        let (mut told, mut chunks, mut deltas) = (0, 0, 0);
        while told < count {
            let chunk = Chunk::at(rest, chunks).ok_or(FeedbackError::Truncated)?;
            chunks += 2;
            let covered = chunk.len().min(count - told);
            deltas += chunk.delta_bytes(covered)?;
            told += covered;
        }
        let (chunks, rest) = rest.split_at(chunks);
        let deltas = rest.get(..deltas).ok_or(FeedbackError::Truncated)?;
        Ok(Self {
            base_sequence: u16::from_be_bytes([head[0], head[1]]),
            count,
            reference: u32::from_be_bytes([0, head[4], head[5], head[6]]),
            number: head[7],
            chunks,
            deltas,
        })
    }

    /// The transport-wide sequence number of the first packet.
    #[must_use]
    pub fn base_sequence(&self) -> u16 {
        self.base_sequence
    }

    /// Of how many packets it tells, at least 1.
    #[must_use]
    pub fn packets(&self) -> u16 {
        self.count
    }

    /// What arrivals count from, in units of 64 ms, 24 bits.
    #[must_use]
    pub fn reference_time(&self) -> u32 {
        self.reference
    }

    /// Which of the feedback messages this is, modulo 256.
    #[must_use]
    pub fn number(&self) -> u8 {
        self.number
    }

    /// For each packet in order when it came, in units of 250 µs after the reference time; `None` if it did not.
    pub fn arrivals(&self) -> impl Iterator<Item = Option<i64>> + use<'a> {
        let (mut deltas, mut time) = (self.deltas, 0);
        self.chunks
            .chunks_exact(2)
            .map(|bytes| Chunk(u16::from_be_bytes([bytes[0], bytes[1]])))
            .flat_map(|chunk| (0..chunk.len()).map(move |index| chunk.symbol(index)))
            .take(usize::from(self.count))
            .map(move |symbol| {
                let (delta, rest) = match (symbol, deltas) {
                    (1, [small, rest @ ..]) => (i64::from(*small), rest),
                    (2, [high, low, rest @ ..]) => (i64::from(i16::from_be_bytes([*high, *low])), rest),
                    _ => return None,
                };
                deltas = rest;
                time += delta;
                Some(time)
            })
    }
}

/// Statuses of some packets (§3.1.3, §3.1.4).
#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn at(bytes: &[u8], offset: usize) -> Option<Self> {
        bytes.get(offset..)?.first_chunk().map(|bytes| Self(u16::from_be_bytes(*bytes)))
    }

    fn is_vector(self) -> bool {
        self.0 & 0x8000 != 0
    }

    fn has_two_bit_symbols(self) -> bool {
        self.0 & 0x4000 != 0
    }

    /// Of how many packets it tells.
    fn len(self) -> u16 {
        match (self.is_vector(), self.has_two_bit_symbols()) {
            (false, _) => self.0 & 0x1FFF,
            (true, true) => 7,
            (true, false) => 14,
        }
    }

    /// 0: it did not come; 1: it came, with a small delta; 2: with a large one; 3 is reserved (§3.1.1).
    fn symbol(self, index: u16) -> u16 {
        match (self.is_vector(), self.has_two_bit_symbols()) {
            (false, _) => self.0 >> 13 & 3,
            (true, true) => self.0 >> (12 - 2 * index.min(6)) & 3,
            (true, false) => self.0 >> (13 - index.min(13)) & 1,
        }
    }

    /// What the deltas of its first `count` packets take.
    fn delta_bytes(self, count: u16) -> Result<usize, FeedbackError> {
        if !self.is_vector() {
            let symbol = self.symbol(0);
            return if symbol == 3 {
                Err(FeedbackError::Reserved)
            } else {
                Ok(usize::from(symbol) * usize::from(count))
            };
        }
        (0..count).map(|index| self.symbol(index)).try_fold(0, |sum, symbol| {
            if symbol == 3 { Err(FeedbackError::Reserved) } else { Ok(sum + usize::from(symbol)) }
        })
    }
}
