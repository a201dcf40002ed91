//! A thread beside the workers, for what must not wait on theirs: the edges' ends of pipes.

use std::future::Future;
use std::pin::Pin;
use std::thread::JoinHandle;

use lenscast_media::sync::Mutex;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

/// Begins something on the thread.
type Job = Box<dyn FnOnce() -> Pin<Box<dyn Future<Output = ()>>> + Send>;

/// The thread, started when it is first needed. Dropped, it ends, with everything that runs on it.
#[derive(Default)]
pub(crate) struct Background(Mutex<Option<Running>>);

struct Running {
    jobs: mpsc::UnboundedSender<Job>,
    thread: JoinHandle<()>,
}

impl Background {
    /// Runs what `job` makes on the thread.
    ///
    /// # Errors
    ///
    /// If the system has no room for a thread.
    pub(crate) fn spawn<F: Future<Output = ()> + 'static>(
        &self,
        job: impl FnOnce() -> F + Send + 'static,
    ) -> std::io::Result<()> {
        let mut running = self.0.lock();
        if running.is_none() {
            // One for each pipe that is begun, and begun at once.
            let (jobs, received) = mpsc::unbounded_channel();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let thread = std::thread::Builder::new().name("pipes".to_owned()).spawn(move || run(&runtime, received))?;
            *running = Some(Running { jobs, thread });
        }
        if let Some(Running { jobs, .. }) = &*running {
            // It runs as long as this is not dropped.
            let _ = jobs.send(Box::new(move || Box::pin(job())));
        }
        Ok(())
    }

    /// Ends the thread, and waits for it.
    pub(crate) fn stop(&self) {
        if let Some(Running { jobs, thread }) = self.0.lock().take() {
            drop(jobs);
            if thread.join().is_err() {
                tracing::error!("the pipes' thread panicked");
            }
        }
    }
}

fn run(runtime: &tokio::runtime::Runtime, mut jobs: mpsc::UnboundedReceiver<Job>) {
    let tasks = LocalSet::new();
    runtime.block_on(tasks.run_until(async {
        while let Some(job) = jobs.recv().await {
            tokio::task::spawn_local(job());
        }
    }));
}
