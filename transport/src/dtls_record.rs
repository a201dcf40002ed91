//! DTLS records (RFC 6347 §4.1), as far as they must be told apart before `rtc-dtls` sees them: it ends a handshake over
//! a datagram that it cannot cut into records, which RFC 6347 §4.1.2.7 wants discarded in silence, and its work for one
//! handshake message grows with the square of the fragments it comes in.
//!
//! What it does not do: decrypt.

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

/// Type, version, epoch, sequence number, length (RFC 6347 §4.1).
const HEADER_LEN: usize = 13;
/// Type, length, message number, fragment offset and length (RFC 6347 §4.2.2).
const HANDSHAKE_HEADER_LEN: usize = 12;

/// One record of a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    kind: u8,
    epoch: u16,
    bytes: &'a [u8],
}

/// Cuts a datagram into its records; `None` if it is not made of records whole.
pub(crate) fn records(mut datagram: &[u8]) -> Option<Vec<Record<'_>>> {
    let mut records = Vec::new();
    while !datagram.is_empty() {
        let (record, rest) = split_first(datagram)?;
        records.push(record);
        datagram = rest;
    }
    Some(records)
}

impl<'a> Record<'a> {
    /// The whole record, header and all.
    pub(crate) const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) const fn is_handshake(&self) -> bool {
        self.kind == HANDSHAKE
    }

    /// False for what no peer sends during a handshake.
    ///
    /// A ChangeCipherSpec must not be let through under keys: `rtc-dtls` does not decrypt it, takes it for authentic, and
    /// moves on to an epoch that the peer does not know of.
    pub(crate) fn fits_a_handshake(&self) -> bool {
        let in_the_clear = self.epoch == 0;
        match self.kind {
            CHANGE_CIPHER_SPEC => in_the_clear && self.body() == [1],
            ALERT => !in_the_clear || matches!(self.body(), [1 | 2, _]),
            HANDSHAKE => true,
            _ => !in_the_clear,
        }
    }

    /// False for what means nothing once the handshake is done: all that is left to come is the peer's last flight, if
    /// ours was lost, and its goodbye. Data would be data channels, which we do not offer.
    pub(crate) const fn fits_a_connection(&self) -> bool {
        match self.kind {
            HANDSHAKE => true,
            ALERT => self.epoch > 0,
            _ => false,
        }
    }

    /// How many pieces of handshake messages `rtc-dtls` will make of it, or could, where encryption hides them; 1 for
    /// other records.
    pub(crate) fn pieces(&self) -> usize {
        let mut body = self.body();
        match (self.kind, self.epoch) {
            (HANDSHAKE, 0) => {
                let mut pieces = 0;
                while let Some(header) = body.first_chunk::<HANDSHAKE_HEADER_LEN>() {
                    pieces += 1;
                    // As `rtc-dtls` has it, by the length of the message and not of the fragment.
                    let len = u32::from_be_bytes([0, header[1], header[2], header[3]]) as usize;
                    body = body.get(HANDSHAKE_HEADER_LEN + len..).unwrap_or_default();
                }
                pieces.max(1)
            }
            (HANDSHAKE, _) => (body.len() / HANDSHAKE_HEADER_LEN).max(1),
            _ => 1,
        }
    }

    fn body(&self) -> &'a [u8] {
        &self.bytes[HEADER_LEN..]
    }
}

fn split_first(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let header = datagram.first_chunk::<HEADER_LEN>()?;
    let kind = header[0];
    // DTLS 1.2, and 1.0, which a ClientHello may carry on its record (RFC 6347 §4.1).
    let known = matches!(kind, CHANGE_CIPHER_SPEC..=APPLICATION_DATA) && matches!(header[1..3], [0xFE, 0xFD | 0xFF]);
    let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
    if !known || len == 0 {
        return None;
    }
    let (bytes, rest) = datagram.split_at_checked(HEADER_LEN + len)?;
    Some((Record { kind, epoch: u16::from_be_bytes([header[3], header[4]]), bytes }, rest))
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn record(kind: u8, epoch: u16, number: u64, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xFE, 0xFD];
        record.extend_from_slice(&epoch.to_be_bytes());
        record.extend_from_slice(&number.to_be_bytes()[2..]);
        record.extend_from_slice(&(body.len() as u16).to_be_bytes());
        record.extend_from_slice(body);
        record
    }

    /// A fragment of the peer's first message, of one byte at `offset`.
    pub(crate) fn fragment(offset: u8) -> [u8; 13] {
        [1, 0, 0, 200, 0, 0, 0, 0, offset, 0, 0, 1, 0]
    }

    #[test]
    fn a_datagram_is_made_of_whole_records_of_known_types() {
        let two = [record(22, 0, 0, &[0; 12]), record(20, 0, 1, &[1])].concat();
        assert_eq!(records(&two).unwrap().len(), 2);
        for len in (1..two.len()).filter(|len| *len != 25) {
            assert_eq!(records(&two[..len]), None, "cut off at {len}");
        }
        for kind in [0, 19, 24, 25, 63] {
            assert_eq!(records(&record(kind, 0, 0, &[1])), None);
        }
        assert_eq!(records(&[22, 3, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1]), None, "that is TLS");
    }

    #[test]
    fn a_record_is_judged_by_its_type_and_its_epoch() {
        let judged = |kind, epoch, body: &[u8]| {
            let bytes = record(kind, epoch, 0, body);
            let record = records(&bytes).unwrap()[0];
            (record.fits_a_handshake(), record.fits_a_connection())
        };
        assert_eq!(judged(22, 0, &[0; 12]), (true, true));
        assert_eq!(judged(20, 0, &[1]), (true, false));
        assert_eq!(judged(20, 0, &[2]), (false, false));
        assert_eq!(judged(20, 1, &[1]), (false, false));
        assert_eq!(judged(21, 0, &[2, 40]), (true, false));
        assert_eq!(judged(21, 0, &[2]), (false, false));
        assert_eq!(judged(21, 1, &[0; 26]), (true, true));
        assert_eq!(judged(23, 0, &[0; 26]), (false, false));
        assert_eq!(judged(23, 1, &[0; 26]), (true, false));
    }

    #[test]
    fn pieces_are_counted_where_they_show_and_assumed_where_they_do_not() {
        let pieces = |kind, epoch, body: &[u8]| records(&record(kind, epoch, 0, body)).unwrap()[0].pieces();
        let empty_message = [1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(pieces(22, 0, &empty_message.repeat(7)), 7);
        assert_eq!(pieces(22, 0, &fragment(0)), 1);
        assert_eq!(pieces(22, 0, &[0; 5]), 1);
        assert_eq!(pieces(22, 1, &[0; 48]), 4);
        assert_eq!(pieces(21, 1, &[0; 48]), 1);
    }

    proptest! {
        #[test]
        fn what_is_cut_into_records_is_covered_by_them(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 20_u8..24) {
            let datagram = [record(kind, 0, 0, &bytes), bytes].concat();
            if let Some(records) = records(&datagram) {
                prop_assert_eq!(records.iter().map(|record| record.bytes().len()).sum::<usize>(), datagram.len());
                prop_assert!(records.iter().all(|record| record.pieces() >= 1));
            }
        }
    }
}
