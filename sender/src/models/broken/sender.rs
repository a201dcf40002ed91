use super::{
    AddTrackError, AllocationRequest, Arc, BurstSink, Closed, EncodeTask, Running, Sender, SetAllocationError,
    ShareChange, Track, TrackConfig, TrackControl, TrackId, thread,
};
use crate::allocations::Allocations;
use crate::encode_task::Build;
use crate::models::Kept;
use lenscast_media::Bitrate;

/// Makes a change.
pub(crate) type Apply = fn(&Allocations, &AllocationRequest, &Build) -> Result<u64, SetAllocationError>;

impl Sender {
    /// Adds a track whose task runs in another way.
    pub(crate) fn add_running(
        &self,
        config: TrackConfig,
        control: Arc<TrackControl>,
        sink: Box<dyn BurstSink>,
        run: fn(EncodeTask),
    ) -> Result<Arc<Track>, AddTrackError> {
        let mut tracks = self.tracks.write();
        let table = tracks.as_mut().ok_or(Closed)?;
        let id = TrackId(table.next_id);
        table.next_id += 1;
        let running = self.started(id, config, control, sink, run);
        let track = Arc::clone(&running.track);
        table.running.insert(id, running);
        self.allocations.add(Arc::clone(&track))?;
        Ok(track)
    }

    /// Looks whether it is closed, and then adds.
    pub(crate) fn add_looking_first(
        &self,
        config: TrackConfig,
        control: Arc<TrackControl>,
        sink: Box<dyn BurstSink>,
    ) -> Result<Arc<Track>, AddTrackError> {
        let id = TrackId(self.tracks.read().as_ref().ok_or(Closed)?.next_id);
        let running = self.started(id, config, control, sink, EncodeTask::run);
        let track = Arc::clone(&running.track);
        if let Some(table) = self.tracks.write().as_mut() {
            table.next_id += 1;
            table.running.insert(id, running);
            self.allocations.add(Arc::clone(&track))?;
        }
        Ok(track)
    }

    fn started(
        &self,
        id: TrackId,
        config: TrackConfig,
        control: Arc<TrackControl>,
        sink: Box<dyn BurstSink>,
        run: fn(EncodeTask),
    ) -> Running {
        let track = Arc::new(Track::new(id, config, control));
        let (build, allocations, cpu) = (Arc::clone(&self.build), Arc::clone(&self.allocations), Arc::clone(&self.cpu));
        let task = EncodeTask::new(Arc::clone(&track), sink, build, allocations, cpu);
        Running { track, task: thread::spawn(move || run(task)) }
    }

    pub(crate) fn allocate_as(&self, request: &AllocationRequest, apply: Apply) -> Result<u64, SetAllocationError> {
        apply(&self.allocations, request, &*self.build)
    }

    /// Equal shares for the tracks that there were.
    pub(crate) fn equal_by_name(&self) -> Result<u64, SetAllocationError> {
        let change = ShareChange { weight: Some(1.0), ..ShareChange::default() };
        let shares = self.tracks()?.iter().map(|track| (track.id(), change)).collect();
        self.allocate(&AllocationRequest { shares, ..AllocationRequest::default() })
    }

    /// Waits for every track's frame.
    pub(crate) fn update_visiting_encoders(&self, estimate: Bitrate) -> Result<(), Closed> {
        self.allocations.update_visiting_encoders(estimate)
    }

    /// Tells nobody that it takes a track out of the table before it has ended.
    pub(crate) fn remove_in_secret(&self, id: TrackId) -> Result<bool, Closed> {
        let removed = self.tracks.write().as_mut().ok_or(Closed)?.running.remove(&id);
        let found = removed.is_some();
        if let Some(running) = removed {
            self.allocations.remove(id);
            running.stop();
        }
        Ok(found)
    }

    /// Keeps the table for itself until the track has ended.
    pub(crate) fn remove_holding_the_table(&self, id: TrackId) -> Result<bool, Closed> {
        let mut tracks = Kept::new(self.tracks.write());
        let removed = tracks.as_mut().ok_or(Closed)?.running.remove(&id);
        let found = removed.is_some();
        if let Some(running) = removed {
            self.allocations.remove(id);
            running.stop();
        }
        Ok(found)
    }

    /// Leaves the track its share.
    pub(crate) fn remove_from_the_table_only(&self, id: TrackId) -> Result<bool, Closed> {
        let removed = self.tracks.write().as_mut().ok_or(Closed)?.running.remove(&id);
        let found = removed.is_some();
        if let Some(running) = removed {
            running.stop();
        }
        Ok(found)
    }

    /// Tells the tasks to end, and does not wait until they have.
    pub(crate) fn close_without_waiting(&self) {
        let Some(table) = self.tracks.write().take() else { return };
        self.allocations.close();
        for running in table.running.values() {
            running.track.buffer().close();
        }
    }

    /// Does not wait for what others are ending.
    pub(crate) fn close_for_itself(&self) {
        let Some(table) = self.tracks.write().take() else { return };
        self.allocations.close();
        table.running.into_values().for_each(Running::stop);
    }

    /// Leaves the allocation open.
    pub(crate) fn close_the_table_only(&self) {
        let _ending = self.ending.lock();
        let Some(table) = self.tracks.write().take() else { return };
        table.running.into_values().for_each(Running::stop);
    }
}
