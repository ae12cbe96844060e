//! The threads that serve TCP connections, plain and TLS. Each has a runtime of its own, and a connection stays where it
//! was begun.
//!
//! A runtime that shares its tasks among threads wakes a second thread whenever a first one was woken, to look for more
//! work. Between requests that come one by one there is none, and on small machines that is a third of all wake-ups
//! (decision 0010). What connections wait for lies elsewhere: the log, the store, and QUIC, which is few sockets for many
//! clients, stay on the runtime that has all threads.

use std::io;
use std::sync::Arc;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Threads for connections. They end when this is dropped, and with them what still runs on them.
#[derive(Debug)]
pub struct Threads {
    threads: Vec<Thread>,
    /// The runtime that has all else.
    aside: Option<Handle>,
    stop: CancellationToken,
}

#[derive(Debug)]
struct Thread {
    handle: Handle,
    /// Shared with every connection that it serves.
    load: Arc<()>,
}

/// A connection's place on a thread, as long as it has it.
#[derive(Debug)]
pub(crate) struct Turn {
    _load: Option<Arc<()>>,
}

impl Threads {
    /// No threads of its own: connections are served where they are accepted.
    #[must_use]
    pub fn none() -> Self {
        Self { threads: Vec::new(), aside: None, stop: CancellationToken::new() }
    }

    /// Starts so many. What would hold up the other connections of a thread goes to the runtime that this is called on.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(count: usize) -> io::Result<Self> {
        let mut all = Self { threads: Vec::new(), aside: Some(Handle::current()), stop: CancellationToken::new() };
        for _ in 0..count {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let (handle, stop) = (runtime.handle().clone(), all.stop.clone());
            let run = move || {
                runtime.block_on(stop.cancelled());
                // Reads of the disk that are under way are not waited for.
                runtime.shutdown_background();
            };
            std::thread::Builder::new().name("connections".into()).spawn(run)?;
            all.threads.push(Thread { handle, load: Arc::default() });
        }
        Ok(all)
    }

    /// Where work goes that takes long; nowhere, where connections have no threads of their own.
    pub(crate) fn aside(&self) -> Option<&Handle> {
        self.aside.as_ref()
    }

    /// The one that serves the fewest connections.
    pub(crate) fn next(&self) -> (Handle, Turn) {
        match self.threads.iter().min_by_key(|thread| Arc::strong_count(&thread.load)) {
            Some(Thread { handle, load }) => (handle.clone(), Turn { _load: Some(load.clone()) }),
            None => (Handle::current(), Turn { _load: None }),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connections_are_spread_and_places_are_given_back() {
        let threads = Threads::start(3).unwrap();
        let ids = |turns: &[(Handle, Turn)]| turns.iter().map(|(handle, _)| handle.id()).collect::<Vec<_>>();
        let mut first: Vec<_> = (0..3).map(|_| threads.next()).collect();
        let mut all = ids(&first);
        all.sort_unstable_by_key(ToString::to_string);
        all.dedup();
        assert_eq!(all.len(), 3, "each has one");
        let (freed, turn) = first.remove(1);
        drop(turn);
        assert_eq!(threads.next().0.id(), freed.id());
    }

    #[tokio::test]
    async fn what_runs_on_a_thread_ends_with_it() {
        let threads = Threads::start(1).unwrap();
        let task = threads.next().0.spawn(std::future::pending::<()>());
        drop(threads);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
