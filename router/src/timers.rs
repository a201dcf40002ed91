use std::collections::HashMap;
use std::hash::Hash;
use std::time::Instant;

/// What is due when: each thing at most once.
///
/// Of things that are due at the same time the smaller comes first. What is set again and again costs no memory: a thing
/// keeps its place here once its time has come, until it is set to never.
#[derive(Debug)]
pub struct Timers<T> {
    /// A binary heap of slots by what is due first: no slot is due before the one at half its position.
    heap: Vec<usize>,
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
    by_thing: HashMap<T, usize>,
}

#[derive(Debug)]
struct Slot<T> {
    thing: T,
    due: Instant,
    /// In the heap; `None` if the thing is not due at any time.
    position: Option<usize>,
}

impl<T: Ord + Hash + Copy> Timers<T> {
    /// When the first of all is due.
    #[must_use]
    pub fn first(&self) -> Option<Instant> {
        self.heap.first().map(|&slot| self.slots[slot].due)
    }

    /// Sets when `thing` is due, whatever was set before; `None` for never.
    pub fn set(&mut self, thing: T, due: Option<Instant>) {
        let Some(due) = due else {
            if let Some(slot) = self.by_thing.remove(&thing) {
                self.take_out(slot);
                self.free.push(slot);
            }
            return;
        };
        let slot = match self.by_thing.get(&thing) {
            Some(&slot) => slot,
            None => self.make_room(thing, due),
        };
        self.slots[slot].due = due;
        let position = self.slots[slot].position.unwrap_or_else(|| {
            self.heap.push(slot);
            self.heap.len() - 1
        });
        self.settle(slot, position);
    }

    /// True if `thing` is due at some time.
    #[must_use]
    pub fn is_set(&self, thing: T) -> bool {
        self.by_thing.get(&thing).is_some_and(|&slot| self.slots[slot].position.is_some())
    }

    /// True if nothing is due at any time.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Takes the first that is due by `now`, with the time it was due.
    pub fn take_due(&mut self, now: Instant) -> Option<(Instant, T)> {
        let &slot = self.heap.first()?;
        let Slot { thing, due, .. } = self.slots[slot];
        if due > now {
            return None;
        }
        self.take_out(slot);
        Some((due, thing))
    }

    fn make_room(&mut self, thing: T, due: Instant) -> usize {
        let fresh = Slot { thing, due, position: None };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot] = fresh;
            slot
        } else {
            self.slots.push(fresh);
            self.slots.len() - 1
        };
        self.by_thing.insert(thing, slot);
        slot
    }

    /// Takes a slot out of the heap, if it is there.
    fn take_out(&mut self, slot: usize) {
        let Some(position) = self.slots[slot].position.take() else { return };
        let last = self.heap.pop().expect("the slot is in it");
        if last != slot {
            self.settle(last, position);
        }
    }

    /// Puts a slot where it belongs, from `position`, which is its own or free.
    fn settle(&mut self, slot: usize, mut position: usize) {
        while position > 0
            && let above = (position - 1) / 2
            && self.precedes(slot, self.heap[above])
        {
            self.put(self.heap[above], position);
            position = above;
        }
        loop {
            let below = [2 * position + 1, 2 * position + 2].into_iter().filter(|below| *below < self.heap.len());
            let first = below.min_by_key(|below| self.key(self.heap[*below]));
            match first.filter(|first| self.precedes(self.heap[*first], slot)) {
                Some(first) => {
                    self.put(self.heap[first], position);
                    position = first;
                }
                None => break,
            }
        }
        self.put(slot, position);
    }

    fn put(&mut self, slot: usize, position: usize) {
        self.heap[position] = slot;
        self.slots[slot].position = Some(position);
    }

    fn precedes(&self, slot: usize, other: usize) -> bool {
        self.key(slot) < self.key(other)
    }

    fn key(&self, slot: usize) -> (Instant, T) {
        (self.slots[slot].due, self.slots[slot].thing)
    }
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: Vec::new(), slots: Vec::new(), free: Vec::new(), by_thing: HashMap::new() }
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Set(u8, u64),
        Never(u8),
        Take(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..20, 0_u64..50).prop_map(|(thing, due)| Step::Set(thing, due)),
            1 => (0_u8..20).prop_map(Step::Never),
            2 => (0_u64..50).prop_map(Step::Take),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_plain_map(steps in prop::collection::vec(step(), 1..300)) {
            let start = Instant::now();
            let at = |due| start + Duration::from_millis(due);
            let (mut timers, mut plain) = (Timers::default(), BTreeMap::new());
            for step in steps {
                match step {
                    Step::Set(thing, due) => {
                        timers.set(thing, Some(at(due)));
                        plain.insert(thing, due);
                    }
                    Step::Never(thing) => {
                        timers.set(thing, None);
                        plain.remove(&thing);
                    }
                    Step::Take(now) => {
                        let first = plain.iter().map(|(thing, due)| (*due, *thing)).min().filter(|(due, _)| *due <= now);
                        if let Some((_, thing)) = first {
                            plain.remove(&thing);
                        }
                        prop_assert_eq!(timers.take_due(at(now)), first.map(|(due, thing)| (at(due), thing)));
                    }
                }
                prop_assert_eq!(timers.first(), plain.values().min().map(|due| at(*due)));
                prop_assert_eq!(timers.is_empty(), plain.is_empty());
                prop_assert!((0..20).all(|thing| timers.is_set(thing) == plain.contains_key(&thing)));
            }
        }
    }

    #[test]
    fn what_is_gone_leaves_its_place_to_others() {
        let now = Instant::now();
        let mut timers = Timers::default();
        for thing in 0..100 {
            timers.set(thing, Some(now));
            timers.set(thing, None);
        }
        assert_eq!((timers.slots.len(), timers.by_thing.len()), (1, 0));
    }
}
