//! Places for answers that go on: so many in all, so many for each network, given back when the stream ends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use lenscast_media::sync::Mutex;

use super::rate_limit::network_of;

/// The places there are.
#[derive(Debug)]
pub(super) struct Places {
    most: usize,
    most_of_one: usize,
    /// By network: none is there with zero.
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

/// Why there is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoPlace {
    /// So many are taken.
    All(usize),
    /// This network has so many.
    OfThisNetwork(usize),
}

impl Places {
    pub(super) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        Arc::new(Self { most, most_of_one, taken: Mutex::default() })
    }

    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, NoPlace> {
        let network = network_of(address);
        let mut taken = self.taken.lock();
        if taken.values().sum::<usize>() >= self.most {
            return Err(NoPlace::All(self.most));
        }
        let of_one = taken.get(&network).copied().unwrap_or(0);
        if of_one >= self.most_of_one {
            return Err(NoPlace::OfThisNetwork(of_one));
        }
        taken.insert(network, of_one + 1);
        Ok(Place { places: Arc::clone(self), network })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock();
        match taken.get_mut(&self.network) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                taken.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_network_takes_all_places_and_each_is_given_back() {
        let places = Places::new(3, 2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let first = take("192.0.2.1").unwrap();
        let _second = take("::ffff:192.0.2.1").unwrap();
        assert_eq!(take("192.0.2.1").unwrap_err(), NoPlace::OfThisNetwork(2));
        let third = take("2001:db8::1").unwrap();
        assert_eq!(take("192.0.2.2").unwrap_err(), NoPlace::All(3));
        drop(first);
        let _again = take("2001:db8::2").unwrap();
        drop(third);
        assert!(take("192.0.2.1").is_ok());
        assert_eq!(places.taken.lock().values().sum::<usize>(), 2, "that one was given back at once");
    }
}
