//! The thread pool of the kernels: ours, capped, and rebuilt after a fork.
//!
//! Rayon's global pool lives in threads that a forked child does not have, so that a kernel called
//! there waits for ever. The pool here remembers the process that built it; another process builds
//! its own. The number of threads never changes a result: dates are the unit of parallel work, and
//! every reduction runs in a fixed order.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::interrupt::{Interrupt, listen};
use crate::{CoreError, Result, shape};

/// Most threads a pool may have; beyond it a request is surely a mistake.
pub const MAX_THREADS: usize = 4096;

/// A pool and what it was built for.
struct Owned {
    process: u32,
    n_threads: usize,
    pool: ThreadPool,
}

/// Cap set by the user; 0 stands for none.
static CAP: AtomicUsize = AtomicUsize::new(0);
/// The number without a cap; 0 until it is read.
static START: AtomicUsize = AtomicUsize::new(0);
/// No lock: a child forked while another thread held one would wait for ever.
static POOL: ArcSwapOption<Owned> = ArcSwapOption::const_empty();

/// Set the number of threads that kernels use from now on.
///
/// Kernels that are running keep the pool they started with.
///
/// # Errors
///
/// [`CoreError::Range`] unless `1 <= n_threads <= MAX_THREADS`.
pub fn set_num_threads(n_threads: usize) -> Result<()> {
    shape::require_between("n_threads", n_threads, 1, MAX_THREADS)?;
    CAP.store(n_threads, Ordering::Relaxed);
    Ok(())
}

/// Number of threads that the next kernel will use.
pub fn num_threads() -> usize {
    [&CAP, &START]
        .map(|count| count.load(Ordering::Relaxed))
        .into_iter()
        .find(|&count| count > 0)
        .unwrap_or_else(read_environment)
}

/// Read the number of threads without a cap, which [`num_threads`] does on its first call else.
///
/// The environment may not be read while another thread of a process writes it: a binding calls this
/// when it is loaded. Later changes of the environment have no effect.
pub fn read_environment() -> usize {
    let count = start_value();
    START.store(count, Ordering::Relaxed);
    count
}

/// `ML4T_NUM_THREADS` where it is a sensible number, else what the machine offers.
fn start_value() -> usize {
    std::env::var("ML4T_NUM_THREADS")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .filter(|n_threads| (1..=MAX_THREADS).contains(n_threads))
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, std::num::NonZero::get))
}

/// Run `work` inside the kernels' pool; parallel iterators in it use that pool.
///
/// # Errors
///
/// [`CoreError::Failed`] when the operating system refuses to start threads, or whatever `work`
/// returns.
pub fn install<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    current()?.pool.install(work)
}

/// [`install`], and call `goes_on` here every so often: once it says no, `work` is interrupted.
///
/// # Errors
///
/// As [`install`], and [`CoreError::Interrupted`] when `work` stopped before it was done.
pub fn install_watched<T: Send>(
    work: impl FnOnce() -> Result<T> + Send,
    every: Duration,
    mut goes_on: impl FnMut() -> bool,
) -> Result<T> {
    let (owned, interrupt) = (current()?, Interrupt::default());
    let (sender, receiver) = sync_channel(1);
    let outcome = owned.pool.in_place_scope(|scope| {
        scope.spawn(|_| {
            let work = || listen(&interrupt, work);
            // The receiver waits for it.
            let _ = sender.send(catch_unwind(AssertUnwindSafe(work)));
        });
        loop {
            match receiver.recv_timeout(every) {
                Ok(outcome) => return outcome,
                Err(RecvTimeoutError::Timeout) if goes_on() => {}
                Err(_) => {
                    interrupt.raise();
                    return receiver.recv().unwrap_or(Ok(Err(CoreError::Interrupted)));
                }
            }
        }
    });
    outcome.unwrap_or_else(|panic| resume_unwind(panic))
}

fn current() -> Result<Arc<Owned>> {
    let (process, n_threads) = (std::process::id(), num_threads());
    let found = POOL.load_full();
    if let Some(owned) = &found
        && owned.process == process
        && owned.n_threads == n_threads
    {
        return Ok(Arc::clone(owned));
    }
    let pool = ThreadPoolBuilder::new()
        .num_threads(n_threads)
        .thread_name(|index| format!("ml4t-models-{index}"))
        .build()
        .map_err(|error| CoreError::Failed {
            what: "starting the thread pool",
            why: error.to_string(),
        })?;
    let owned = Arc::new(Owned {
        process,
        n_threads,
        pool,
    });
    POOL.store(Some(Arc::clone(&owned)));
    if let Some(stale) = found
        && stale.process != process
    {
        // To drop it takes the locks of its threads, which stayed in the parent: one that was taken
        // at the time of the fork is never given back.
        std::mem::forget(stale);
    }
    Ok(owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rayon::prelude::*;

    #[test]
    fn a_kernel_sees_the_cap() {
        set_num_threads(3).unwrap_or_else(|error| unreachable!("{error}"));
        let seen = install(|| Ok(rayon::current_num_threads()));
        assert_eq!(seen, Ok(3));
        assert_eq!(num_threads(), 3);
        let sum = install(|| Ok((0..1000u64).into_par_iter().sum::<u64>()));
        assert_eq!(sum, Ok(499_500));
    }

    #[test]
    fn no_threads_is_refused() {
        let got = set_num_threads(0);
        assert!(matches!(
            got,
            Err(CoreError::Range {
                what: "n_threads",
                ..
            })
        ));
    }
}
