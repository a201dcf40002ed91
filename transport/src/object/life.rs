use std::collections::HashMap;

use lenscast_router::{
    ConsumerId, ConsumerScore, EndCause, Event, Layers, OutletId, ProducerKey, RouterId, TransportId,
};
use tokio::sync::watch;

/// What is known of an object at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Life {
    /// Of a producer: whether it is paused.
    pub paused: bool,
    /// Of a consumer: the layers that it forwards.
    pub layers: Option<Layers>,
    /// Of a consumer: how well it gets through, once that has changed.
    pub score: Option<ConsumerScore>,
    /// Why it ended, once it has. Nothing changes after that.
    pub ended: Option<EndCause>,
}

/// Which object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum LifeOf {
    Router(RouterId),
    Transport(TransportId),
    Producer(ProducerKey),
    Consumer(ConsumerId),
    Outlet(OutletId),
}

/// The lives on a worker's thread that somebody follows. Dropped with the worker, it tells them that it is gone.
#[derive(Default)]
pub(crate) struct Lives {
    followed: HashMap<LifeOf, watch::Sender<Life>>,
}

impl Lives {
    pub(crate) fn follow(&mut self, object: LifeOf, life: watch::Sender<Life>) {
        self.followed.insert(object, life);
    }

    pub(crate) fn forget(&mut self, object: LifeOf) {
        self.followed.remove(&object);
    }

    pub(crate) fn len(&self) -> usize {
        self.followed.len()
    }

    /// The router has told something.
    pub(crate) fn handle_event(&mut self, event: &Event) {
        match *event {
            Event::RouterClosed(id, cause) => self.end(LifeOf::Router(id), cause),
            Event::TransportClosed(id, cause) => self.end(LifeOf::Transport(id), cause),
            Event::ProducerClosed(key, cause) => self.end(LifeOf::Producer(key), cause),
            Event::ConsumerClosed { consumer, cause, .. } => self.end(LifeOf::Consumer(consumer), cause),
            Event::OutletClosed(id, cause) => self.end(LifeOf::Outlet(id), cause),
            Event::ProducerPaused(key) => self.change(LifeOf::Producer(key), |life| life.paused = true),
            Event::ProducerResumed(key) => self.change(LifeOf::Producer(key), |life| life.paused = false),
            Event::LayersChanged { consumer, layers, .. } => {
                self.change(LifeOf::Consumer(consumer), |life| life.layers = layers);
            }
            Event::ScoreChanged { consumer, score, .. } => {
                self.change(LifeOf::Consumer(consumer), |life| life.score = Some(score));
            }
            _ => {}
        }
    }

    fn change(&mut self, object: LifeOf, change: impl FnOnce(&mut Life)) {
        if let Some(life) = self.followed.get(&object) {
            life.send_modify(change);
        }
    }

    fn end(&mut self, object: LifeOf, cause: EndCause) {
        if let Some(life) = self.followed.remove(&object) {
            life.send_modify(|life| life.ended = Some(cause));
        }
    }
}

/// A life as a handle sees it.
#[derive(Debug, Clone)]
pub(crate) struct Living(watch::Receiver<Life>);

impl Living {
    pub(crate) fn new() -> (watch::Sender<Life>, Self) {
        let (sender, receiver) = watch::channel(Life::default());
        (sender, Self(receiver))
    }

    pub(crate) fn now(&self) -> Life {
        let life = *self.0.borrow();
        // Whoever could tell is gone without having told: its thread has ended.
        let orphaned = life.ended.is_none() && self.0.has_changed().is_err();
        if orphaned { Life { ended: Some(self.last_word()), ..life } } else { life }
    }

    /// Waits for something else than `seen`. The same again once it has ended.
    pub(crate) async fn changed(&self, seen: Life) -> Life {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|life| *life != seen || life.ended.is_some()).await {
            Ok(life) => *life,
            Err(_) => self.now(),
        }
    }

    pub(crate) async fn ended(&self) -> EndCause {
        let mut receiver = self.0.clone();
        match receiver.wait_for(|life| life.ended.is_some()).await {
            Ok(life) => life.ended.unwrap_or(EndCause::WorkerClosed),
            Err(_) => self.last_word(),
        }
    }

    fn last_word(&self) -> EndCause {
        self.0.borrow().ended.unwrap_or(EndCause::WorkerClosed)
    }
}
