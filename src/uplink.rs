//! What viewers' connections carry, shared out: the task that plans whenever that changes, and tells encoders and workers.
//!
//! It collects what is known (reports of legs, claims on the bandwidth, rates of streams that come in), has
//! [`plan_legs`] decide, and hands on what has changed.
//!
//! **Invariants.** It plans at most every 50 ms, and takes no more than a twentieth of a core. What a person changes of the
//! allocation takes effect with the next plan; so does what a reload changes of `[bandwidth]`.
//!
//! What it does not do: estimate, or decide.

mod uncontrolled;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lenscast_congestion::{
    FixedRates, HighestLayers, LayerRates, LegDemand, LegId, MediaDemand, Plan, PlanRequest, SourceDemand, SourceId,
    SourceRates, plan_legs,
};
use lenscast_media::sync::{Mutex, RwLock};
use lenscast_media::{Bitrate, TrackId};
use lenscast_router::{ConsumerId, ProducerId, TransportId};
use lenscast_sender::{MAX_LAYERS, OVERHEAD};
use lenscast_transport::{LegPlan, LegReport, PreferredLayers};
use tokio::sync::Notify;

use crate::agent::Agent;
use crate::config::{LEAST_ESTIMATE as LEAST, UplinkConfig};
use crate::feed::Feed;
use crate::stream::Stream;
use uncontrolled::Uncontrolled;

/// What the configuration says of viewers' connections, and what was planned last.
pub struct Uplink {
    config: Mutex<UplinkConfig>,
    /// Something has changed that plans go by.
    changed: Notify,
    planned: RwLock<Arc<Planned>>,
}

/// What was planned last, by the transport's names.
#[derive(Debug, Default)]
pub struct Planned {
    legs: BTreeMap<TransportId, PlannedViewer>,
    /// What is sent to those whose connections tell nothing. Measured only where the uplink has a limit.
    pub uncontrolled: Bitrate,
}

/// What was planned for one viewer.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedViewer {
    /// Its part of the uplink; [`Bitrate::UNLIMITED`] where that is.
    pub limit: Bitrate,
    /// What it would be sent if its connection carried everything.
    pub wanted: Bitrate,
    /// Its streams.
    pub media: BTreeMap<ConsumerId, PlannedStream>,
}

/// What was planned for one stream of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedStream {
    /// Its part of what the connection carries, without headers.
    pub share: Bitrate,
    /// The layers that it is given at most. `None`: nothing fits.
    pub layers: Option<PreferredLayers>,
}

/// Between two plans. A frame lasts 33 ms: planning for each would change nothing that anybody sees.
const PERIOD: Duration = Duration::from_millis(50);

/// Of the time, at most one part in so many goes into planning.
const SHARE_OF_A_CORE: u32 = 20;

/// While there are viewers, it plans this often though nothing has been told: rates of streams that come in change unnoticed.
const LONGEST: Duration = Duration::from_millis(500);

/// What is set aside for a stream's audio: Opus as libwebrtc has it by default, 32 kb/s in 50 packets a second
/// (`media/engine/webrtc_voice_engine.cc`), with their headers.
const AUDIO: Bitrate = Bitrate::from_bps(32_000 + 50 * 8 * OVERHEAD.packet_bytes as u64);

impl Uplink {
    pub(crate) fn new(config: UplinkConfig) -> Self {
        Self { config: Mutex::new(config), changed: Notify::new(), planned: RwLock::new(Arc::default()) }
    }

    /// What the configuration says.
    #[must_use]
    pub fn config(&self) -> UplinkConfig {
        *self.config.lock()
    }

    /// What was planned last.
    #[must_use]
    pub fn planned(&self) -> Arc<Planned> {
        Arc::clone(&self.planned.read())
    }

    pub(crate) fn reconfigure(&self, config: UplinkConfig) {
        *self.config.lock() = config;
        self.replan();
    }

    /// Something has changed that plans go by.
    pub(crate) fn replan(&self) {
        self.changed.notify_one();
    }
}

impl Planned {
    /// What was planned for a viewer; `None` for one whose connection tells nothing.
    #[must_use]
    pub fn viewer(&self, id: TransportId) -> Option<&PlannedViewer> {
        self.legs.get(&id)
    }
}

/// Plans again and again, for as long as the process runs.
pub async fn share_out(agent: Arc<Agent>) {
    let mut changes = agent.transport().leg_changes();
    let mut planner = Planner::default();
    loop {
        let is_limited = agent.uplink().config().max.is_some();
        let longest = (is_limited || !planner.is_idle()).then(|| planner.next_look(Instant::now()));
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = agent.uplink().changed.notified() => {}
            () = sleep_for(longest) => {}
        }
        planner.look(&agent, Instant::now()).await;
        // What others took to answer was no work of this one's.
        let began = Instant::now();
        planner.plan(&agent, began);
        // Whatever changes meanwhile is found then.
        tokio::time::sleep(PERIOD.max(began.elapsed() * (SHARE_OF_A_CORE - 1))).await;
    }
}

/// For ever, if for no time in particular.
async fn sleep_for(span: Option<Duration>) {
    match span {
        Some(span) => tokio::time::sleep(span).await,
        None => std::future::pending().await,
    }
}

/// What is remembered from plan to plan.
#[derive(Default)]
struct Planner {
    plan: Plan,
    /// The names of sources in plans, which are never used again.
    sources: BTreeMap<ProducerId, SourceId>,
    next_source: u32,
    /// What layers of streams took lately.
    rates: BTreeMap<ProducerId, LayerRates>,
    /// What was told last.
    told: BTreeMap<TransportId, LegPlan>,
    ceilings: BTreeMap<TrackId, [Bitrate; MAX_LAYERS]>,
    uncontrolled: Uncontrolled,
    /// What must be sent exceeds the uplink, and that has been told.
    is_exceeded: bool,
}

impl Planner {
    /// There was nobody to plan for.
    fn is_idle(&self) -> bool {
        self.plan.legs().is_empty()
    }

    fn next_look(&self, now: Instant) -> Duration {
        self.plan.expires().map_or(LONGEST, |expires| expires.saturating_duration_since(now).min(LONGEST))
    }

    /// Measures what is sent to those that nothing limits, where that matters.
    async fn look(&mut self, agent: &Agent, now: Instant) {
        if agent.uplink().config().max.is_none() {
            self.uncontrolled = Uncontrolled::default();
        } else if self.uncontrolled.is_due(now) {
            self.uncontrolled.observe(now, &agent.transport().stats().await.sessions);
        }
    }

    fn plan(&mut self, agent: &Agent, now: Instant) {
        let reports = agent.transport().leg_reports();
        if reports.is_empty() && self.is_idle() {
            if agent.uplink().planned().uncontrolled != self.uncontrolled.rate() {
                let uncontrolled = self.uncontrolled.rate();
                *agent.uplink().planned.write() = Arc::new(Planned { uncontrolled, ..Planned::default() });
            }
            return;
        }
        // Once it has stopped there is nothing to plan.
        let Ok(allocation) = agent.allocation() else { return };
        let feeds = agent.feeds();
        self.name_sources(&feeds);
        let mut sources = Vec::new();
        let mut tracks = BTreeMap::new();
        let mut with_audio = Vec::new();
        for feed in &feeds {
            let Some(&producer) = feed.producers().first() else { continue };
            let source = self.sources[&producer];
            match feed {
                Feed::Camera(camera) => {
                    let track = camera.track().id();
                    let Ok(index) = allocation.tracks.binary_search_by_key(&track, |allotted| allotted.track) else {
                        continue;
                    };
                    let allotted = &allocation.tracks[index];
                    tracks.insert(source, track);
                    sources.push(SourceDemand {
                        source,
                        // What is held up takes nothing.
                        weight: if camera.is_paused() { 0.0 } else { allotted.share.weight },
                        min: allotted.share.min,
                        max: allotted.share.max,
                        enforced: allotted.share.enforced,
                        framerate: allotted.framerate,
                        rates: SourceRates::Encoded(allotted.layers),
                    });
                }
                Feed::Stream(stream) => {
                    if feed.producers().len() > 1 {
                        with_audio.push(producer);
                    }
                    sources.push(self.demand_of(stream, source, producer));
                }
            }
        }
        let legs = reports.iter().map(|report| self.leg(report, &with_audio)).collect();
        let uplink = agent.uplink().config().limit();
        let request = PlanRequest {
            uplink: left_of(uplink, self.uncontrolled.rate(), reports.len()),
            overhead: OVERHEAD,
            version: allocation.version,
            sources,
            legs,
        };
        self.plan = plan_legs(now, &request, &self.plan);
        self.tell_whether_minima_exceed(uplink);
        self.tell_tracks(agent, &tracks);
        self.tell_legs(agent, &reports);
    }

    /// Warns once when what must be sent comes to exceed the uplink, and says when it no longer does by a tenth: what goes out
    /// unmeasured trembles.
    fn tell_whether_minima_exceed(&mut self, uplink: Bitrate) {
        let minima = self.plan.legs().iter().map(|leg| leg.least.max(LEAST).as_bps());
        let must = minima.fold(self.uncontrolled.rate().as_bps(), u64::saturating_add);
        let needs = Bitrate::from_bps(must);
        if !self.is_exceeded && needs > uplink {
            self.is_exceeded = true;
            tracing::warn!(
                max_uplink_kbps = uplink.as_kbps(),
                minima_kbps = needs.as_kbps(),
                without_feedback_kbps = self.uncontrolled.rate().as_kbps(),
                "viewers' minima together exceed max_uplink_kbps: more is sent"
            );
        } else if self.is_exceeded && needs.as_bps() <= uplink.as_bps() / 10 * 9 {
            self.is_exceeded = false;
            tracing::info!("viewers' minima are within max_uplink_kbps again");
        }
    }

    /// Gives each stream a name in plans, and forgets those that are gone.
    fn name_sources(&mut self, feeds: &[Feed]) {
        let producers: Vec<ProducerId> = feeds.iter().filter_map(|feed| feed.producers().first().copied()).collect();
        self.sources.retain(|producer, _| producers.contains(producer));
        self.rates.retain(|producer, _| producers.contains(producer));
        for producer in producers {
            let next = &mut self.next_source;
            self.sources.entry(producer).or_insert_with(|| {
                *next = next.wrapping_add(1);
                SourceId(*next)
            });
        }
    }

    /// Of streams nobody has claimed anything: all are equal, and none can use more than it is.
    fn demand_of(&mut self, stream: &Stream, source: SourceId, producer: ProducerId) -> SourceDemand {
        let layers = stream.layers();
        let count = stream.tracks().map_or(1, |tracks| usize::from(tracks.layers).max(1));
        let measured: Vec<Bitrate> = layers.iter().map(|layer| layer.bitrate).collect();
        let rates = self.rates.entry(producer).or_default().update(&measured, count);
        SourceDemand {
            source,
            weight: if stream.is_paused() { 0.0 } else { 1.0 },
            min: Bitrate::ZERO,
            max: Bitrate::UNLIMITED,
            enforced: false,
            framerate: layers.iter().map(|layer| layer.frames_per_second).fold(0.0, f64::max),
            rates: SourceRates::Fixed(FixedRates::of_layers(&rates)),
        }
    }

    fn leg(&self, report: &LegReport, with_audio: &[ProducerId]) -> LegDemand {
        let audible = report.media.iter().filter(|media| !media.paused && with_audio.contains(&media.producer)).count();
        let media = report.media.iter().filter_map(|media| {
            Some(MediaDemand {
                source: *self.sources.get(&media.producer)?,
                preferred: HighestLayers { spatial: media.preferred.spatial, temporal: media.preferred.temporal },
                paused: media.paused,
            })
        });
        LegDemand {
            leg: LegId(report.id.0),
            estimate: report.estimate.target,
            is_confirmed: report.is_confirmed,
            reserved: Bitrate::from_bps(AUDIO.as_bps() * audible as u64),
            media: media.collect(),
        }
    }

    fn tell_tracks(&mut self, agent: &Agent, tracks: &BTreeMap<SourceId, TrackId>) {
        let ceilings: BTreeMap<TrackId, [Bitrate; MAX_LAYERS]> = (self.plan.ceilings().iter())
            .filter_map(|ceilings| Some((*tracks.get(&ceilings.source)?, ceilings.layers)))
            .collect();
        let changed = ceilings.iter().filter(|(track, layers)| self.ceilings.get(track) != Some(layers));
        let changed: Vec<_> = changed.map(|(track, layers)| (*track, *layers)).collect();
        // Closed, it has no tracks.
        if !changed.is_empty() {
            let _ = agent.set_ceilings(&changed);
        }
        self.ceilings = ceilings;
    }

    fn tell_legs(&mut self, agent: &Agent, reports: &[LegReport]) {
        let mut legs = BTreeMap::new();
        let mut told = BTreeMap::new();
        for report in reports {
            let Some(planned) = self.plan.leg(LegId(report.id.0)) else { continue };
            let media = report.media.iter().filter_map(|media| {
                let planned = planned.media_of(*self.sources.get(&media.producer)?)?;
                let layers =
                    planned.layers.map(|HighestLayers { spatial, temporal }| PreferredLayers { spatial, temporal });
                Some((media.consumer, PlannedStream { share: planned.share, layers }))
            });
            let media: BTreeMap<_, _> = media.collect();
            let ceilings = report.media.iter().filter_map(|one| {
                let PlannedStream { layers, .. } = media.get(&one.consumer)?;
                // Who has all that it prefers is not held back from what it may prefer next: a plan that comes just after it has
                // changed its mind would have the source make a key frame in vain, and sources do not make two at once.
                let has_all = *layers == Some(one.preferred);
                Some((one.consumer, if has_all { Some(PreferredLayers::HIGHEST) } else { *layers }))
            });
            let plan =
                LegPlan { id: report.id, limit: planned.limit, wanted: planned.wanted, media: ceilings.collect() };
            legs.insert(report.id, PlannedViewer { limit: planned.limit, wanted: planned.wanted, media });
            told.insert(report.id, plan);
        }
        let changed = told.iter().filter(|(id, plan)| self.told.get(id) != Some(plan));
        let changed: Vec<LegPlan> = changed.map(|(_, plan)| plan.clone()).collect();
        if !changed.is_empty() {
            agent.transport().plan_legs(changed);
        }
        self.told = told;
        *agent.uplink().planned.write() = Arc::new(Planned { legs, uncontrolled: self.uncontrolled.rate() });
    }
}

/// What is left of the uplink for legs that can be limited: for each what an estimate is at least, whatever the others take.
fn left_of(uplink: Bitrate, uncontrolled: Bitrate, legs: usize) -> Bitrate {
    if uplink == Bitrate::UNLIMITED {
        return uplink;
    }
    let least = LEAST.as_bps().saturating_mul(legs as u64);
    Bitrate::from_bps(uplink.as_bps().saturating_sub(uncontrolled.as_bps()).max(least))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_cannot_be_limited_comes_off_first_but_each_leg_keeps_the_least() {
        let left = |uplink, uncontrolled, legs| {
            left_of(Bitrate::from_kbps(uplink), Bitrate::from_kbps(uncontrolled), legs).as_kbps()
        };
        assert_eq!((left(1_200, 0, 2), left(1_200, 500, 2), left(1_200, 5_000, 2)), (1_200, 700, 60));
        assert_eq!(left_of(Bitrate::UNLIMITED, Bitrate::from_kbps(500), 2), Bitrate::UNLIMITED);
    }
}
