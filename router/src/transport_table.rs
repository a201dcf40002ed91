use std::collections::BTreeMap;

use crate::{TransportId, TransportSlot};

/// Transports by slot and by name.
#[derive(Debug)]
pub(crate) struct TransportTable<T> {
    slots: Vec<Option<T>>,
    free: Vec<TransportSlot>,
    by_id: BTreeMap<TransportId, TransportSlot>,
}

impl<T> TransportTable<T> {
    pub(crate) fn slot(&self, id: TransportId) -> Option<TransportSlot> {
        self.by_id.get(&id).copied()
    }

    pub(crate) fn get(&self, slot: TransportSlot) -> Option<&T> {
        self.slots.get(slot.index())?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: TransportSlot) -> Option<&mut T> {
        self.slots.get_mut(slot.index())?.as_mut()
    }

    pub(crate) fn insert(&mut self, id: TransportId, transport: T) -> TransportSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            TransportSlot(self.slots.len() as u32 - 1)
        });
        self.slots[slot.index()] = Some(transport);
        self.by_id.insert(id, slot);
        slot
    }

    pub(crate) fn remove(&mut self, id: TransportId) -> Option<T> {
        let slot = self.by_id.remove(&id)?;
        self.free.push(slot);
        self.slots[slot.index()].take()
    }

    /// In the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (TransportSlot, &T)> {
        self.by_id.values().filter_map(|&slot| Some((slot, self.get(slot)?)))
    }
}

impl<T> Default for TransportTable<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), by_id: BTreeMap::new() }
    }
}
