//! A lane of its own for what is not urgent: threads of a lower priority, on which data are fetched from the store for
//! readers, read from the staging disk, and checked.
//!
//! A reader that is far behind asks for as much as it gets, for hours. On the threads that answer producers its work would
//! stand in their way, a slice of time each; on these, the system lets whoever is urgent go first. Where nobody is, they
//! take whole processors.

use std::sync::Arc;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

/// How much less urgent the lane is: a tenth of the weight of other threads where there is not enough for all. Not less,
/// so that readers get on also where producers want every processor.
const NICE: i32 = 10;
/// Threads that may block on a disk or compute, for each that waits for the store.
const BLOCKING_PER_THREAD: usize = 4;

/// Where such work runs. A clone is the same lane; its threads end with the last one.
#[derive(Debug, Clone, Default)]
pub struct Lane(Option<Arc<Own>>);

#[derive(Debug)]
struct Own {
    handle: Handle,
    /// Taken when the lane ends.
    runtime: Option<Runtime>,
}

impl Lane {
    /// A lane with so many threads (at least one), and four times as many that may block.
    ///
    /// # Errors
    /// The system gives no threads.
    pub fn start(threads: usize) -> std::io::Result<Self> {
        let threads = threads.max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .max_blocking_threads(threads * BLOCKING_PER_THREAD)
            .thread_name("weir-cold")
            .on_thread_start(yield_to_others)
            .enable_all()
            .build()?;
        Ok(Self(Some(Arc::new(Own { handle: runtime.handle().clone(), runtime: Some(runtime) }))))
    }

    /// None of its own: work runs on the threads of whoever asks for it.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// Does what blocks or computes on a thread where it may. `None` when the threads ended first. Cancellation safe; work
    /// that began goes on.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let running = match &self.0 {
            Some(own) => own.handle.spawn_blocking(work),
            None => tokio::task::spawn_blocking(work),
        };
        match running.await {
            Ok(done) => Some(done),
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_) => None,
        }
    }

    /// Runs a task that the tracker owns.
    pub(crate) fn spawn<F>(&self, tasks: &TaskTracker, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match &self.0 {
            Some(own) => tasks.spawn_on(task, &own.handle),
            None => tasks.spawn(task),
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // The last clone may go on a thread that must not wait.
            runtime.shutdown_background();
        }
    }
}

/// Lowers the priority of this thread. On other systems the call would lower that of the whole process.
fn yield_to_others() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(NICE) {
        tracing::debug!(%error, "the priority of a thread could not be lowered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn its_threads_give_way_to_others() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let lane = Lane::start(1).unwrap();
        let computing = lane.run(priority).await.unwrap();
        let waiting = lane.spawn(&TaskTracker::new(), async move { priority() }).await.unwrap();
        let expected = (priority() + NICE).min(19);
        assert_eq!((computing, waiting), (expected, expected));
        assert_eq!(Lane::none().run(priority).await.unwrap(), priority());
    }

    #[tokio::test]
    async fn it_may_end_on_a_thread_that_must_not_wait() {
        let lane = Lane::start(1).unwrap();
        let name = lane.run(|| std::thread::current().name().map(str::to_owned)).await.unwrap();
        assert_eq!(name.as_deref(), Some("weir-cold"));
        drop(lane);
    }
}
