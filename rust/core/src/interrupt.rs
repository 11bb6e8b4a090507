//! Stopping a kernel from outside.
//!
//! A kernel that runs under [`listen`] stops at its next [`check`] once its [`Interrupt`] is raised,
//! and `listen` returns [`CoreError::Interrupted`]. Dates, windows, draws, sweeps, Krylov steps and
//! blocks of rows are checked: one relaxed load each.
//!
//! A check unwinds to `listen`, without a message: it stands in closures of parallel iterators and in
//! operators that return nothing, and no caller can take it for a failure of the data and go on. The
//! memory of the kernel is released on the way, and what it borrowed is unchanged unless it is its
//! output. Outside `listen` a check does nothing.
//!
//! An interrupt belongs to one call. Threads of the pool serve several calls in turn, so [`each`]
//! hands the caller's interrupt to whichever thread takes an item of a parallel iterator.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use crate::{CoreError, Result};

thread_local! {
    /// Of the call that this thread works for.
    static CURRENT: RefCell<Option<Interrupt>> = const { RefCell::new(None) };
}

/// How often a thread that waits for another checks.
const WAKE: Duration = Duration::from_millis(20);

/// Raised by any thread, for the one call that listens to it.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Stop the call at its next check.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The unwinding of an interrupted call.
struct Stopped;

/// Run `work`, which stops at its next [`check`] once `interrupt` is raised.
///
/// # Errors
///
/// [`CoreError::Interrupted`] then, or whatever `work` returns.
pub fn listen<T>(interrupt: &Interrupt, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let entered = Entered::new(Some(interrupt.clone()));
    let outcome = catch_unwind(AssertUnwindSafe(work));
    drop(entered);
    outcome.unwrap_or_else(|payload| match payload.downcast::<Stopped>() {
        Ok(_) => Err(CoreError::Interrupted),
        Err(panic) => resume_unwind(panic),
    })
}

/// Stop here if the call that this thread works for is interrupted.
pub fn check() {
    let raised = CURRENT.with_borrow(|current| current.as_ref().is_some_and(Interrupt::is_raised));
    if raised {
        resume_unwind(Box::new(Stopped));
    }
}

/// `work` for the items of a parallel iterator: every thread checks first, and works for this call.
pub(crate) fn each<I, O>(work: impl Fn(I) -> O + Sync) -> impl Fn(I) -> O + Sync {
    let current = current();
    move |item| {
        let _entered = enter(&current);
        check();
        work(item)
    }
}

/// [`each`] for work with a state by thread.
pub(crate) fn each_with<S, I, O>(
    work: impl Fn(&mut S, I) -> O + Sync,
) -> impl Fn(&mut S, I) -> O + Sync {
    let current = current();
    move |state, item| {
        let _entered = enter(&current);
        check();
        work(state, item)
    }
}

/// Run long work that holds no check on a thread of its own, and check while it runs.
///
/// After an interrupt that thread is left to finish by itself: it owns all that it reads, and its
/// result is dropped. Without a listener the work runs here.
pub(crate) fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    if current().is_none() {
        return work();
    }
    let (sender, receiver) = sync_channel(1);
    let run = move || {
        // Nobody listens any more after an interrupt.
        let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
    };
    std::thread::spawn(run);
    loop {
        match receiver.recv_timeout(WAKE) {
            Ok(Ok(found)) => return found,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(RecvTimeoutError::Timeout) => check(),
            Err(RecvTimeoutError::Disconnected) => resume_unwind(lost()),
        }
    }
}

fn lost() -> Box<dyn Any + Send> {
    Box::new("a thread ended without a result")
}

fn current() -> Option<Interrupt> {
    CURRENT.with_borrow(Clone::clone)
}

/// Work for a call; nothing to undo where the thread does so already.
fn enter(call: &Option<Interrupt>) -> Option<Entered> {
    let same = CURRENT.with_borrow(|current| match (current, call) {
        (Some(own), Some(other)) => Arc::ptr_eq(&own.0, &other.0),
        (own, other) => own.is_none() && other.is_none(),
    });
    (!same).then(|| Entered::new(call.clone()))
}

/// While it lives, the thread works for a call; then again for the one before.
struct Entered(Option<Interrupt>);

impl Entered {
    fn new(call: Option<Interrupt>) -> Self {
        Self(CURRENT.replace(call))
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn an_interrupt_stops_its_own_call_alone() {
        let (one, other) = (Interrupt::default(), Interrupt::default());
        one.raise();
        let run = |interrupt: &Interrupt| {
            listen(interrupt, || {
                let sum = (0..1000_u64).into_par_iter().map(each(|v| v)).sum::<u64>();
                Ok(sum)
            })
        };
        assert_eq!(run(&one), Err(CoreError::Interrupted));
        assert_eq!(run(&other), Ok(499_500));
        // What was caught leaves nothing behind.
        check();
    }

    #[test]
    fn work_on_other_threads_belongs_to_the_call() {
        let interrupt = Interrupt::default();
        let got = listen(&interrupt, || {
            (0..64).into_par_iter().for_each(each(|item| {
                if item == 0 {
                    interrupt.raise();
                }
                check();
            }));
            Ok(())
        });
        assert_eq!(got, Err(CoreError::Interrupted));
    }

    #[test]
    fn waiting_for_long_work_ends_at_once() {
        let interrupt = Interrupt::default();
        let (start, raised) = (std::time::Instant::now(), interrupt.clone());
        let got = listen(&interrupt, || {
            raised.raise();
            apart(|| std::thread::sleep(Duration::from_secs(5)));
            Ok(())
        });
        assert_eq!(got, Err(CoreError::Interrupted));
        assert!(start.elapsed() < Duration::from_secs(4));
        assert_eq!(listen(&Interrupt::default(), || Ok(apart(|| 7))), Ok(7));
        assert_eq!(apart(|| 7), 7);
    }

    #[test]
    fn a_panic_is_no_interrupt() {
        let caught = catch_unwind(|| {
            listen(&Interrupt::default(), || -> Result<()> {
                resume_unwind(Box::new(1_u8))
            })
        });
        assert!(caught.is_err_and(|payload| payload.is::<u8>()));
    }
}
