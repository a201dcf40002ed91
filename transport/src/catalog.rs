use std::collections::HashMap;

use lenscast_media::sync::Mutex;
use lenscast_router::{ProducerId, ProducerParameters, TransportId};

use crate::directory::Directory;

/// What is known of the server's producers without asking their workers: what a pipe has to say of them.
#[derive(Default)]
pub(crate) struct Catalog(Mutex<HashMap<ProducerId, Entry>>);

struct Entry {
    parameters: ProducerParameters,
    /// It ends with this session.
    publisher: Option<TransportId>,
}

impl Catalog {
    pub(crate) fn add(&self, producer: ProducerId, parameters: ProducerParameters, publisher: Option<TransportId>) {
        self.0.lock().insert(producer, Entry { parameters, publisher });
    }

    pub(crate) fn forget(&self, producer: ProducerId) {
        self.0.lock().remove(&producer);
    }

    /// Forgets what ended with its publisher.
    pub(crate) fn tidy(&self, directory: &Directory) {
        self.0.lock().retain(|_, entry| entry.publisher.is_none_or(|session| directory.contains(session)));
    }

    pub(crate) fn find(&self, producer: ProducerId, directory: &Directory) -> Option<ProducerParameters> {
        self.tidy(directory);
        self.0.lock().get(&producer).map(|entry| entry.parameters.clone())
    }
}
