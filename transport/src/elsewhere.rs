use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;

/// Addresses whose checks name another worker's session, with that worker.
///
/// Anybody can put addresses in, forged ones too, so there is only so much room: the oldest goes first. A viewer that is
/// put out is found again by its next check.
#[derive(Debug, Default)]
pub(crate) struct Elsewhere {
    workers: HashMap<SocketAddr, usize>,
    /// In the order in which they came.
    order: VecDeque<SocketAddr>,
}

const MAX_ADDRESSES: usize = 4_096;

impl Elsewhere {
    pub(crate) fn get(&self, address: SocketAddr) -> Option<usize> {
        self.workers.get(&address).copied()
    }

    pub(crate) fn insert(&mut self, address: SocketAddr, worker: usize) {
        if self.workers.insert(address, worker).is_some() {
            return;
        }
        self.order.push_back(address);
        if self.order.len() > MAX_ADDRESSES
            && let Some(oldest) = self.order.pop_front()
        {
            self.workers.remove(&oldest);
        }
    }

    pub(crate) fn remove(&mut self, address: SocketAddr) {
        if self.workers.remove(&address).is_some() {
            self.order.retain(|known| *known != address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: usize) -> SocketAddr {
        ([192, 0, 2, 1], number as u16).into()
    }

    #[test]
    fn the_oldest_makes_room() {
        let mut elsewhere = Elsewhere::default();
        for number in 0..MAX_ADDRESSES {
            elsewhere.insert(address(number), 1);
        }
        elsewhere.insert(address(5), 2);
        assert_eq!((elsewhere.get(address(0)), elsewhere.get(address(5))), (Some(1), Some(2)));
        elsewhere.insert(address(MAX_ADDRESSES), 3);
        assert_eq!([0, 1, MAX_ADDRESSES].map(|number| elsewhere.get(address(number))), [None, Some(1), Some(3)]);
    }

    #[test]
    fn one_that_has_gone_takes_no_room() {
        let mut elsewhere = Elsewhere::default();
        for number in 0..10_000 {
            elsewhere.insert(address(number), 1);
            elsewhere.remove(address(number));
        }
        assert!(elsewhere.workers.is_empty() && elsewhere.order.is_empty());
    }
}
