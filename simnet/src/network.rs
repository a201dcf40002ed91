//! Links put together: packets go over one after the other, cross those of other flows, and come out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::counters::Counters;
use crate::link::{Link, LinkConfig};
use crate::packet::{Delivered, EcnCodepoint, FlowId, Packet};
use crate::time::{NEVER, Nanos, nanos};
use crate::trace::Trace;

/// A link of a network: what [`Network::add_link`] returned. Of no use to another network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(usize);

/// The links that a packet takes, one after the other. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route(Arc<[LinkId]>);

impl Route {
    /// Over these links; over none, a packet is there at once.
    #[must_use]
    pub fn new(links: &[LinkId]) -> Self {
        Self(links.into())
    }

    /// The links in order.
    #[must_use]
    pub fn links(&self) -> &[LinkId] {
        &self.0
    }
}

/// A network of links that serves any number of flows.
///
/// Order of calls: [`send`](Self::send) as packets come; at [`poll_timeout`](Self::poll_timeout), not later,
/// [`handle_timeout`](Self::handle_timeout), then [`poll_delivered`](Self::poll_delivered) until it has nothing. Times never go back; one that
/// does is taken for the latest. Being called late changes nothing inside the network, but an answer to a packet then comes late.
///
/// The same calls give the same results to the last bit.
#[derive(Debug)]
pub struct Network<P> {
    start: Instant,
    now: Nanos,
    links: Vec<Link<Transit<P>>>,
    /// The next arrival of each link that has one: time, the packet's number, the link.
    arrivals: BinaryHeap<Reverse<(Nanos, u64, usize)>>,
    delivered: VecDeque<Delivered<P>>,
    flows: BTreeMap<FlowId, Counters>,
    /// The number of the next packet that enters a link.
    next_order: u64,
}

#[derive(Debug)]
struct Transit<P> {
    packet: Packet<P>,
    route: Route,
    /// Which of the route's links it is on.
    hop: usize,
    sent_at: Nanos,
    waited: Nanos,
}

impl<P> Network<P> {
    /// Without any links. `start` is when the links' traces begin.
    #[must_use]
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            now: 0,
            links: Vec::new(),
            arrivals: BinaryHeap::new(),
            delivered: VecDeque::new(),
            flows: BTreeMap::new(),
            next_order: 0,
        }
    }

    /// One more link.
    pub fn add_link(&mut self, config: LinkConfig) -> LinkId {
        self.links.push(Link::new(config));
        LinkId(self.links.len() - 1)
    }

    /// What became of all packets that came to a link.
    ///
    /// # Panics
    /// If the link is another network's, as all that take one.
    #[must_use]
    pub fn link_counters(&self, link: LinkId) -> Counters {
        self.links[link.0].counters
    }

    /// What became of all packets of a flow.
    #[must_use]
    pub fn flow_counters(&self, flow: FlowId) -> Counters {
        self.flows.get(&flow).copied().unwrap_or_default()
    }

    /// What a link carries over time.
    #[must_use]
    pub fn link_capacity(&self, link: LinkId) -> &Trace {
        self.links[link.0].capacity()
    }

    /// How long a packet that came to the link now would wait for its turn; [`Duration::MAX`] if that never comes.
    #[must_use]
    pub fn link_queue_delay(&self, link: LinkId, now: Instant) -> Duration {
        match self.links[link.0].wait(self.time_of(now)) {
            NEVER => Duration::MAX,
            wait => Duration::from_nanos(wait),
        }
    }

    /// How many bytes wait in a link's queue, the packet that is being served counted whole.
    #[must_use]
    pub fn link_queue_bytes(&self, link: LinkId, now: Instant) -> u64 {
        self.links[link.0].queued_bytes(self.time_of(now))
    }

    /// Time has passed: what has arrived by now goes over to the next link or comes out.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(self.time_of(now));
    }

    /// A packet begins its way. What happened before now happens first.
    ///
    /// # Panics
    /// If the route has a link of another network.
    pub fn send(&mut self, now: Instant, route: &Route, packet: Packet<P>) {
        let now = self.time_of(now);
        self.advance(now);
        self.flows.entry(packet.flow).or_default().offered.add(packet.size);
        self.forward(now, Transit { packet, route: route.clone(), hop: 0, sent_at: now, waited: 0 });
    }

    /// When something next happens in the network.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        if let Some(next) = self.delivered.front() {
            return Some(next.arrived_at);
        }
        let Reverse((time, ..)) = self.arrivals.peek()?;
        self.instant_of(*time)
    }

    /// A packet that has come out at the end of its route, in the order of arrival.
    #[must_use]
    pub fn poll_delivered(&mut self) -> Option<Delivered<P>> {
        self.delivered.pop_front()
    }

    fn advance(&mut self, now: Nanos) {
        while let Some(&Reverse((time, _, index))) = self.arrivals.peek()
            && time <= now
        {
            let link = &mut self.links[index];
            let passage = link.take(time);
            self.arrivals.pop();
            if let Some((next, order)) = link.next_arrival() {
                self.arrivals.push(Reverse((next, order, index)));
            }
            let Some(passage) = passage else { continue };
            let mut transit = passage.content;
            transit.waited += passage.waited;
            transit.hop += 1;
            let flow = self.flows.entry(transit.packet.flow).or_default();
            if passage.is_lost {
                flow.lost.add(passage.size);
                continue;
            }
            if passage.is_marking && matches!(transit.packet.ecn, EcnCodepoint::Ect0 | EcnCodepoint::Ect1) {
                transit.packet.ecn = EcnCodepoint::Ce;
                flow.marked.add(passage.size);
                self.links[index].counters.marked.add(passage.size);
            }
            self.forward(time, transit);
        }
        self.now = self.now.max(now);
    }

    /// Puts a packet onto the next link of its route, or out.
    fn forward(&mut self, now: Nanos, transit: Transit<P>) {
        let (flow, size) = (transit.packet.flow, transit.packet.size);
        let Some(&LinkId(index)) = transit.route.0.get(transit.hop) else {
            self.flows.entry(flow).or_default().delivered.add(size);
            let (sent_at, arrived_at) = (self.instant_of(transit.sent_at), self.instant_of(now));
            // Both have been instants, or lie before one that was.
            if let (Some(sent_at), Some(arrived_at)) = (sent_at, arrived_at) {
                let queue_delay = Duration::from_nanos(transit.waited);
                self.delivered.push_back(Delivered { packet: transit.packet, sent_at, arrived_at, queue_delay });
            }
            return;
        };
        let link = &mut self.links[index];
        let was_awaited = link.next_arrival().is_some();
        let order = self.next_order;
        self.next_order += 1;
        if link.offer(now, order, size, transit).is_err() {
            self.flows.entry(flow).or_default().dropped.add(size);
        } else if !was_awaited && let Some((time, order)) = link.next_arrival() {
            self.arrivals.push(Reverse((time, order, index)));
        }
    }

    fn time_of(&self, now: Instant) -> Nanos {
        nanos(now.saturating_duration_since(self.start)).max(self.now)
    }

    fn instant_of(&self, time: Nanos) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(time))
    }
}
