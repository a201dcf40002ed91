//! At most one of each, whoever asks, fails, gives up or comes late: T6, T8, T9, T13, T16 (I10 to I14, I16).

use lenscast_media::sync::thread;

use super::*;
use crate::pipe::PipeKey;
use crate::pipe::promise::{Promise, promise};
use crate::pipe::registry::broken::Mistake;
use crate::pipe::registry::{EntryId, ObtainError, Registry, Shared};
use crate::{ProducerId, RouterId};

/// What a model calls. A broken variant has one of its own.
#[derive(Clone, Copy)]
struct Steps {
    obtain: fn(&Pipes, PipeKey, Create) -> Pin<Box<dyn Future<Output = Obtained> + '_>>,
    remove: fn(&Pipes, &PipeKey, EntryId) -> bool,
    release: fn(Shared<PipeKey, Half, Refused>),
}

const REAL: Steps =
    Steps { obtain: |pipes, key, create| Box::pin(pipes.obtain(key, create)), remove: Registry::remove, release: drop };

type Pipes = Registry<PipeKey, Half, Refused>;
type Obtained = Result<Shared<PipeKey, Half, Refused>, ObtainError<Refused>>;
type Create = Box<dyn FnOnce(EntryId) -> Pin<Box<dyn Future<Output = Result<Half, Refused>>>>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Refused;

/// What is alive, and what ever was.
#[derive(Default)]
struct Record {
    living: usize,
    made: usize,
}

/// What a creation makes at once, and what a pipe is when both ends are there.
struct Half {
    log: Arc<Log<Record>>,
    /// Asked when it is dropped.
    asks: Option<Pipes>,
    /// It no longer counts: it ended by itself.
    ended: Arc<std::sync::atomic::AtomicBool>,
}

impl Half {
    fn new(log: &Arc<Log<Record>>) -> Self {
        let two = log.note(|record| {
            record.living += 1;
            record.made += 1;
            record.living > 1
        });
        log.check(!two, "two at once");
        Self { log: Arc::clone(log), asks: None, ended: Arc::default() }
    }

    /// It has ended on the side of its producer.
    fn end(&self) {
        if !self.ended.swap(true, std::sync::atomic::Ordering::SeqCst) {
            self.log.note(|record| record.living -= 1);
        }
    }
}

impl Drop for Half {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return std::mem::forget(self.asks.take());
        }
        if let Some(pipes) = &self.asks {
            let _ = pipes.len();
        }
        self.end();
    }
}

/// A registry, and what befell it. A clone is for another thread.
struct Scene {
    pipes: Kept<Pipes>,
    log: Arc<Log<Record>>,
    steps: Steps,
}

impl Clone for Scene {
    fn clone(&self) -> Self {
        Self { pipes: Kept::new((*self.pipes).clone()), log: Arc::clone(&self.log), steps: self.steps }
    }
}

const KEY: PipeKey = PipeKey { producer: ProducerId(1), destination: RouterId(2) };

impl Scene {
    fn obtain_as(&self, key: PipeKey, create: Create) -> Obtained {
        block_on((self.steps.obtain)(&self.pipes, key, create))
    }

    /// Obtains what can be made at once.
    fn obtain(&self) -> Kept<Option<Shared<PipeKey, Half, Refused>>> {
        let log = Arc::clone(&self.log);
        let obtained = self.obtain_as(KEY, Box::new(move |_| Box::pin(async move { Ok(Half::new(&log)) })));
        Kept::new(obtained.ok())
    }

    fn release(&self, mut shared: Kept<Option<Shared<PipeKey, Half, Refused>>>) {
        if let Some(shared) = shared.take() {
            (self.steps.release)(shared);
        }
    }

    /// Makes one half, and the other when `confirmed` is kept.
    fn in_two_steps(&self, confirmed: crate::pipe::promise::Awaited<()>) -> Create {
        let log = Arc::clone(&self.log);
        let confirmed = Kept::new(Some(confirmed));
        Box::new(move |_| {
            Box::pin(async move {
                let mut confirmed = confirmed;
                let half = Half::new(&log);
                match confirmed.as_mut().expect("awaited once").await {
                    Some(()) => Ok(half),
                    None => Err(Refused),
                }
            })
        })
    }

    fn spawn<R: 'static>(&self, run: impl FnOnce(&Self) -> R + 'static) -> thread::JoinHandle<R> {
        let scene = self.clone();
        thread::spawn(move || run(&scene))
    }
}

fn run(steps: Steps, model: fn(&Scene)) {
    explore(BOUND, move || {
        let scene = Scene { pipes: Kept::new(Registry::new()), log: Log::new(), steps };
        loom::explore();
        model(&scene);
        loom::stop_exploring();
        let log = Arc::clone(&scene.log);
        log.check(scene.pipes.is_empty(), "something is left in the registry");
        drop(scene);
        let living = log.note(|record| record.living);
        log.check(living == 0, "a half is left");
        log
    });
}

/// T6. The same pipe asked for three times at once: one lives at any time, and none when all have let go.
fn a_pipe_meets_the_same_pipe(steps: Steps) {
    run(steps, |scene| {
        let ask = |scene: &Scene| {
            let shared = scene.obtain();
            scene.log.check(shared.is_some(), "refused");
            scene.release(shared);
        };
        let others = [0, 1].map(|_| scene.spawn(ask));
        ask(scene);
        others.into_iter().for_each(|other| other.join().unwrap());
    });
}

/// T8. A creation that fails ∥ another caller, then a third: whoever waited is told, the next one succeeds, and the half
/// that had been made is gone.
fn a_failure_meets_another_try(steps: Steps) {
    run(steps, |scene| {
        let other = scene.spawn(|scene| {
            let (confirm, confirmed) = promise();
            drop(confirm);
            let failed = scene.obtain_as(KEY, scene.in_two_steps(confirmed));
            let shared = match failed {
                Ok(shared) => Some(shared),
                Err(error) => {
                    scene.log.check(error == ObtainError::Failed(Refused), "another reason");
                    None
                }
            };
            scene.release(Kept::new(shared));
        });
        let early = scene.obtain();
        scene.release(early);
        other.join().unwrap();
        let late = scene.obtain();
        scene.log.check(late.is_some(), "the failure was kept");
        scene.release(late);
    });
}

/// T9. The end of a pipe, told late ∥ a new one, which two share: the old one's end removes nothing of the new one's.
fn an_end_meets_a_new_pipe(steps: Steps) {
    run(steps, |scene| {
        let old = scene.obtain();
        let entry = old.as_ref().expect("nothing is in the way").entry();
        old.as_ref().expect("as before").end();
        let told = scene.spawn(move |scene| {
            (scene.steps.remove)(&scene.pipes, &KEY, entry);
        });
        let other = scene.spawn(move |scene| {
            (scene.steps.remove)(&scene.pipes, &KEY, entry);
            let new = scene.obtain();
            scene.release(new);
        });
        (scene.steps.remove)(&scene.pipes, &KEY, entry);
        scene.release(old);
        let new = scene.obtain();
        scene.release(new);
        told.join().unwrap();
        other.join().unwrap();
    });
}

/// T4, T5, as far as they concern the registry. A pipe that ends while it is being made is given to nobody.
fn an_end_meets_a_creation(steps: Steps) {
    run(steps, |scene| {
        let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (tell, told) = promise();
        let ending = scene.spawn({
            let ended = Arc::clone(&ended);
            move |scene| {
                let Some(entry) = block_on(told) else { return };
                scene.log.note(|_| ended.store(true, std::sync::atomic::Ordering::SeqCst));
                (scene.steps.remove)(&scene.pipes, &KEY, entry);
            }
        });
        let log = Arc::clone(&scene.log);
        let tell = Kept::new(Some(tell));
        let obtained = scene.obtain_as(
            KEY,
            Box::new(move |entry| {
                Box::pin(async move {
                    let mut tell: Kept<Option<Promise<EntryId>>> = tell;
                    let _ = tell.take().expect("once").keep(entry);
                    Ok(Half::new(&log))
                })
            }),
        );
        ending.join().unwrap();
        // Its end has been told: who asks now gets another.
        let fresh = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (log, made) = (Arc::clone(&scene.log), Arc::clone(&fresh));
        if let Ok(shared) = &obtained {
            shared.end();
        }
        let next = scene.obtain_as(
            KEY,
            Box::new(move |_| {
                Box::pin(async move {
                    made.store(true, std::sync::atomic::Ordering::SeqCst);
                    Ok(Half::new(&log))
                })
            }),
        );
        scene.log.check(fresh.load(std::sync::atomic::Ordering::SeqCst), "a pipe that had ended was given out");
        scene.release(Kept::new(next.ok()));
        scene.release(Kept::new(obtained.ok()));
    });
}

/// T13. A caller gives up in the midst ∥ the other end's confirmation ∥ another caller: no half is left, and the other
/// gets his pipe.
fn a_caller_that_gives_up_meets_another(steps: Steps) {
    run(steps, |scene| {
        let (confirm, confirmed) = promise();
        let confirm = Kept::new(Some(confirm));
        let confirming = thread::spawn(move || {
            let mut confirm = confirm;
            if let Some(confirm) = confirm.take() {
                let _ = confirm.keep(());
            }
        });
        let other = scene.spawn(|scene| {
            let shared = scene.obtain();
            scene.log.check(shared.is_some(), "refused");
            scene.release(shared);
        });
        {
            let mut future = Kept::new((scene.steps.obtain)(&scene.pipes, KEY, scene.in_two_steps(confirmed)));
            if let Poll::Ready(obtained) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                scene.release(Kept::new(obtained.ok()));
            }
        }
        confirming.join().unwrap();
        other.join().unwrap();
    });
}

/// T16. What is dropped comes back to the registry.
fn a_drop_asks_the_registry(steps: Steps) {
    run(steps, |scene| {
        let ask = |scene: &Scene| {
            let (log, asks) = (Arc::clone(&scene.log), Kept::new(Some((*scene.pipes).clone())));
            let obtained = scene.obtain_as(
                KEY,
                Box::new(move |_| {
                    Box::pin(async move {
                        let mut asks = asks;
                        let mut half = Half::new(&log);
                        half.asks = asks.take();
                        Ok(half)
                    })
                }),
            );
            scene.release(Kept::new(obtained.ok()));
        };
        let other = scene.spawn(ask);
        ask(scene);
        other.join().unwrap();
    });
}

const BOUND: usize = 5;

const LOOKS_AND_THEN_MAKES: Steps =
    Steps { obtain: |pipes, key, create| Box::pin(pipes.obtain_looking_first(key, create)), ..REAL };
const KEEPS_FAILURES: Steps =
    Steps { obtain: |pipes, key, create| Box::pin(pipes.obtain_with(Mistake::KeepsFailures, key, create)), ..REAL };
const KEEPS_ITS_PLACE: Steps =
    Steps { obtain: |pipes, key, create| Box::pin(pipes.obtain_with(Mistake::KeepsItsPlace, key, create)), ..REAL };
const PUTS_IN_UNSEEN: Steps =
    Steps { obtain: |pipes, key, create| Box::pin(pipes.obtain_with(Mistake::PutsInUnseen, key, create)), ..REAL };
const REMOVES_BY_KEY: Steps = Steps { remove: Registry::remove_by_key, ..REAL };
const FORGETS_FIRST: Steps = Steps { release: Shared::forget_first, ..REAL };
const DROPS_UNDER_THE_LOCK: Steps = Steps { release: Shared::drop_under_the_lock, ..REAL };

models! {
    a_pipe_meets_the_same_pipe {
        finds_a_look_before_the_making => LOOKS_AND_THEN_MAKES, "two at once",
        finds_a_removal_before_the_drop => FORGETS_FIRST, "two at once",
    }
    a_failure_meets_another_try {
        finds_a_failure_that_stays => KEEPS_FAILURES, "deadlock",
    }
    an_end_meets_a_new_pipe {
        finds_a_removal_by_the_key => REMOVES_BY_KEY, "two at once",
    }
    an_end_meets_a_creation {
        finds_a_value_put_in_unseen => PUTS_IN_UNSEEN, "had ended was given out",
    }
    a_caller_that_gives_up_meets_another {
        finds_a_place_that_stays => KEEPS_ITS_PLACE, "deadlock",
    }
    a_drop_asks_the_registry {
        finds_a_drop_under_the_lock => DROPS_UNDER_THE_LOCK, "deadlock",
    }
}
