/// Cuts `data` into pieces such that all packets are of equal length but for a shorter last one.
///
/// A packet holds at most `capacity` bytes of its piece and what stands before it. The first piece is `head` bytes
/// shorter than the others, which is the room its packet needs for something the others do not carry.
pub(crate) fn fragments(data: &[u8], capacity: usize, head: usize) -> impl Iterator<Item = &[u8]> {
    debug_assert!(head < capacity, "the first packet must have room for data");
    let total = data.len() + head;
    let packets = total.div_ceil(capacity).max(1);
    let size = total.div_ceil(packets).max(head + 1);
    let mut rest = data;
    let mut room = size - head;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let (fragment, behind) = rest.split_at(room.min(rest.len()));
        rest = behind;
        room = size;
        Some(fragment)
    })
}

#[cfg(all(test, not(lenscast_loom)))]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn pieces_are_equal_but_the_first_and_the_last_and_make_up_the_whole(
            len in 0_usize..20_000, capacity in 20_usize..1_300, head in 0_usize..20
        ) {
            let data: Vec<u8> = (0..len).map(|byte| byte as u8).collect();
            let pieces: Vec<&[u8]> = fragments(&data, capacity, head).collect();
            prop_assert_eq!(&pieces.concat(), &data);
            let wire = |index: usize| pieces[index].len() + if index == 0 { head } else { 0 };
            for index in 0..pieces.len() {
                prop_assert!(wire(index) <= capacity && !pieces[index].is_empty());
                let last = index + 1 == pieces.len();
                prop_assert!(wire(index) == wire(0) || last && wire(index) < wire(0));
            }
            prop_assert!(pieces.len() <= (len + head).div_ceil(capacity).max(1));
        }
    }
}
