//! The bounds of the front door, and the counting of connections against them.
//!
//! At a bound the door slows down first (it stops reading a socket), then refuses (it closes a new connection); it never
//! queues without end.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Bounds of all listeners of a broker together, unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; a QUIC connection counts as one and each of its streams as one more.
    pub connections_max: usize,
    /// Open connections from one address (IPv6: from one /64). Streams do not count.
    pub connections_per_address_max: usize,
    /// Handshakes under way at once; more wait.
    pub handshakes_max: usize,
    /// Handshakes of one address under way at once; more wait, and over QUIC are refused.
    pub handshakes_per_address_max: usize,
    /// QUIC handshakes of clients that have not shown that they receive at their address; a new client beyond it is
    /// asked to show it before anything is kept for it.
    pub unvalidated_handshakes_max: usize,
    /// How long a handshake may take, with the wait for its turn.
    pub handshake_timeout: Duration,
    /// The largest request, in bytes.
    pub frame_bytes_max: usize,
    /// Requests of one connection that wait for their answer; beyond it the socket is not read.
    pub requests_in_flight_max: usize,
    /// Bytes of all requests that come or wait for their answer; beyond it sockets are not read.
    pub request_bytes_in_flight_max: usize,
    /// Bytes of all answers that wait for their clients to take them; the nearer, the smaller large answers are made.
    pub answer_bytes_max: usize,
    /// Where memory is short, for so long a client may leave a large request unfinished, or an answer untaken.
    pub short_patience: Duration,
    /// A connection on which nothing arrives and nothing is answered for so long is closed, at the latest after twice
    /// this time. One that waits for an answer is not idle.
    pub idle_timeout: Duration,
    /// A client that takes not one byte of its answers for so long is disconnected.
    pub write_timeout: Duration,
    /// How long answers are still finished for a client that has closed its sending side, or whose request closes the
    /// connection.
    pub end_grace: Duration,
    /// How long answers are still finished in a shutdown.
    pub shutdown_grace: Duration,
    /// Streams open at once in one QUIC connection.
    pub quic_streams_max: u32,
    /// Unread bytes that a client may send on one QUIC stream.
    pub quic_stream_window_bytes: u32,
    /// Unread bytes that a client may send on all streams of a QUIC connection at most; also the unacknowledged bytes that
    /// we keep for it.
    pub quic_connection_window_bytes: u32,
    /// Unread bytes that clients may send on all QUIC connections together. A new connection beyond it is refused.
    pub quic_windows_bytes_max: usize,
    /// How often a silent QUIC connection is kept alive, so that address translators do not forget it.
    pub quic_keep_alive: Duration,
    /// A QUIC connection whose client has been silent for so long is lost.
    pub quic_idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 10_000,
            connections_per_address_max: 2_000,
            handshakes_max: 512,
            handshakes_per_address_max: 64,
            unvalidated_handshakes_max: 64,
            handshake_timeout: Duration::from_secs(10),
            frame_bytes_max: 100 << 20,
            requests_in_flight_max: 64,
            request_bytes_in_flight_max: 256 << 20,
            answer_bytes_max: 256 << 20,
            short_patience: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10 * 60),
            write_timeout: Duration::from_secs(30),
            end_grace: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(5),
            quic_streams_max: 100,
            quic_stream_window_bytes: 2 << 20,
            quic_connection_window_bytes: 8 << 20,
            quic_windows_bytes_max: 64 << 20,
            quic_keep_alive: Duration::from_secs(10),
            quic_idle_timeout: Duration::from_secs(30),
        }
    }
}

/// Why a connection was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All connections are taken.
    Full,
    /// This address has all it may have.
    AddressFull,
    /// This address has all the handshakes that it may have at once.
    AddressBusy,
    /// All memory for what QUIC clients may send is promised.
    NoWindow,
}

impl Refusal {
    /// The label of the metric.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "connections_max",
            Self::AddressFull => "connections_per_address_max",
            Self::AddressBusy => "handshakes_per_address_max",
            Self::NoWindow => "quic_windows_bytes",
        }
    }
}

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// Counts connections against their bounds.
#[derive(Debug)]
pub(crate) struct Admission {
    connections_max: usize,
    per_address_max: usize,
    counts: Mutex<Counts>,
}

/// A place among the connections, given back when dropped.
#[derive(Debug)]
pub(crate) struct Place {
    admission: Arc<Admission>,
    address: Option<IpAddr>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            counts: Mutex::default(),
        })
    }

    /// A place for a connection from this address.
    pub(crate) fn connection(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let address = network_of(address);
        let mut counts = self.counts.lock();
        if counts.open >= self.connections_max {
            return Err(Refusal::Full);
        }
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.per_address_max {
            return Err(Refusal::AddressFull);
        }
        *of_address += 1;
        counts.open += 1;
        Ok(Place { admission: Arc::clone(self), address: Some(address) })
    }

    /// A place for a stream of a connection that has one.
    pub(crate) fn stream(self: &Arc<Self>) -> Result<Place, Refusal> {
        let mut counts = self.counts.lock();
        if counts.open >= self.connections_max {
            return Err(Refusal::Full);
        }
        counts.open += 1;
        Ok(Place { admission: Arc::clone(self), address: None })
    }
}

impl Place {
    /// The client has another address now: that one's bound is checked again.
    pub(crate) fn moved_to(&mut self, address: IpAddr) -> Result<(), Refusal> {
        let address = network_of(address);
        if self.address == Some(address) {
            return Ok(());
        }
        let mut counts = self.admission.counts.lock();
        let of_address = counts.by_address.entry(address).or_default();
        if *of_address >= self.admission.per_address_max {
            return Err(Refusal::AddressFull);
        }
        *of_address += 1;
        counts.leave(self.address.replace(address));
        Ok(())
    }
}

impl Counts {
    fn leave(&mut self, address: Option<IpAddr>) {
        let Some(address) = address else { return };
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.admission.counts.lock();
        counts.open -= 1;
        counts.leave(self.address);
    }
}

/// Counts handshakes under way, in all and of each address.
#[derive(Debug)]
pub(crate) struct Handshakes {
    all: Arc<Semaphore>,
    per_address_max: usize,
    by_address: Mutex<HashMap<IpAddr, (Arc<Semaphore>, usize)>>,
    unvalidated_max: usize,
    unvalidated: AtomicUsize,
}

/// A place among the handshakes of an address, or the wait for it.
#[derive(Debug)]
struct OfAddress {
    handshakes: Arc<Handshakes>,
    address: IpAddr,
    places: Arc<Semaphore>,
}

/// A handshake under way; dropped when it is over.
#[derive(Debug)]
pub(crate) struct Handshake {
    _all: OwnedSemaphorePermit,
    _place: OwnedSemaphorePermit,
    _of_address: OfAddress,
    _unvalidated: Option<Unvalidated>,
}

/// A QUIC handshake whose client has not shown that it receives at its address.
#[derive(Debug)]
pub(crate) struct Unvalidated(Arc<Handshakes>);

impl Handshakes {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(limits.handshakes_max.max(1))),
            per_address_max: limits.handshakes_per_address_max.max(1),
            by_address: Mutex::default(),
            unvalidated_max: limits.unvalidated_handshakes_max,
            unvalidated: AtomicUsize::new(0),
        })
    }

    /// Waits for a turn: its address's first, so that an address that waits keeps nothing from others.
    pub(crate) async fn begin(self: &Arc<Self>, address: IpAddr) -> Handshake {
        let of_address = self.of_address(address);
        let place = Arc::clone(&of_address.places).acquire_owned().await.expect("the places are never closed");
        Handshake { _all: self.any().await, _place: place, _of_address: of_address, _unvalidated: None }
    }

    /// A place for a handshake of whatever address comes.
    pub(crate) async fn any(&self) -> OwnedSemaphorePermit {
        Arc::clone(&self.all).acquire_owned().await.expect("the handshakes are never closed")
    }

    /// The handshake that such a place was for, where its address has room.
    pub(crate) fn begin_with(
        self: &Arc<Self>,
        all: OwnedSemaphorePermit,
        address: IpAddr,
        unvalidated: Option<Unvalidated>,
    ) -> Result<Handshake, Refusal> {
        let of_address = self.of_address(address);
        let place = Arc::clone(&of_address.places).try_acquire_owned().map_err(|_| Refusal::AddressBusy)?;
        Ok(Handshake { _all: all, _place: place, _of_address: of_address, _unvalidated: unvalidated })
    }

    /// A place for a client that has not shown its address; without one it must show it.
    pub(crate) fn unvalidated(self: &Arc<Self>) -> Option<Unvalidated> {
        let below = |count: usize| (count < self.unvalidated_max).then_some(count + 1);
        self.unvalidated.fetch_update(Ordering::Relaxed, Ordering::Relaxed, below).ok()?;
        Some(Unvalidated(Arc::clone(self)))
    }

    /// How many have not shown their address now.
    #[cfg(test)]
    pub(crate) fn unvalidated_now(&self) -> usize {
        self.unvalidated.load(Ordering::Relaxed)
    }

    fn of_address(self: &Arc<Self>, address: IpAddr) -> OfAddress {
        let address = network_of(address);
        let mut by_address = self.by_address.lock();
        let (places, users) =
            by_address.entry(address).or_insert_with(|| (Arc::new(Semaphore::new(self.per_address_max)), 0));
        *users += 1;
        OfAddress { handshakes: Arc::clone(self), address, places: Arc::clone(places) }
    }
}

impl Drop for OfAddress {
    fn drop(&mut self) {
        let mut by_address = self.handshakes.by_address.lock();
        if let Some((_, users)) = by_address.get_mut(&self.address) {
            *users -= 1;
            if *users == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

impl Drop for Unvalidated {
    fn drop(&mut self) {
        self.0.unvalidated.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What counts as one address: an IPv4 address, or the /64 that one IPv6 customer gets at least.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// Lets one log line through in a while, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct LogLimit {
    state: Mutex<(Option<Instant>, u64)>,
}

impl LogLimit {
    const INTERVAL: Duration = Duration::from_secs(1);

    /// `Some(lines left out since the last one)` when a line may be written now.
    pub(crate) fn pass(&self) -> Option<u64> {
        let now = Instant::now();
        let (last, left_out) = &mut *self.state.lock();
        if last.is_some_and(|last| now.duration_since(last) < Self::INTERVAL) {
            *left_out += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(connections_max: usize, connections_per_address_max: usize) -> Arc<Admission> {
        Admission::new(&Limits { connections_max, connections_per_address_max, ..Limits::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn places_are_bounded_per_address_and_in_all_and_come_back() {
        let admission = admission(3, 2);
        let a = admission.connection(address("10.0.0.1")).unwrap();
        let _b = admission.connection(address("::ffff:10.0.0.1")).unwrap();
        assert_eq!(admission.connection(address("10.0.0.1")).unwrap_err(), Refusal::AddressFull);
        let c = admission.connection(address("10.0.0.2")).unwrap();
        assert_eq!(admission.connection(address("10.0.0.3")).unwrap_err(), Refusal::Full);
        assert_eq!(admission.stream().unwrap_err(), Refusal::Full);
        drop(a);
        drop(c);
        let _d = admission.connection(address("10.0.0.1")).unwrap();
        let _e = admission.stream().unwrap();
        assert_eq!(admission.counts.lock().by_address.len(), 1);
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let admission = admission(10, 1);
        let _a = admission.connection(address("2001:db8::1")).unwrap();
        assert_eq!(admission.connection(address("2001:db8::ffff:2")).unwrap_err(), Refusal::AddressFull);
        admission.connection(address("2001:db8:0:1::1")).unwrap();
    }

    #[test]
    fn a_place_moves_with_its_client_where_the_new_address_has_room() {
        let admission = admission(10, 1);
        let mut a = admission.connection(address("10.0.0.1")).unwrap();
        let _b = admission.connection(address("10.0.0.2")).unwrap();
        assert_eq!(a.moved_to(address("10.0.0.2")).unwrap_err(), Refusal::AddressFull);
        a.moved_to(address("10.0.0.3")).unwrap();
        a.moved_to(address("10.0.0.3")).unwrap();
        admission.connection(address("10.0.0.1")).unwrap();
        drop(a);
        admission.connection(address("10.0.0.3")).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_waits_for_handshakes_keeps_nothing_from_others() {
        let limits = Limits {
            handshakes_max: 3,
            handshakes_per_address_max: 2,
            unvalidated_handshakes_max: 1,
            ..Limits::default()
        };
        let handshakes = Handshakes::new(&limits);
        let a = address("10.0.0.1");
        let first = handshakes.begin(a).await;
        let _second = handshakes.begin(a).await;
        let third = tokio::spawn({
            let handshakes = handshakes.clone();
            async move { handshakes.begin(a).await }
        });
        tokio::task::yield_now().await;
        let all = handshakes.any().await;
        assert_eq!(handshakes.begin_with(all, a, None).unwrap_err(), Refusal::AddressBusy);
        let other = handshakes.begin(address("10.0.0.2")).await;
        drop(first);
        let third = third.await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(60), handshakes.any()).await.is_err(), "three at once");
        let unvalidated = handshakes.unvalidated().unwrap();
        assert!(handshakes.unvalidated().is_none());
        drop((other, third, unvalidated));
        assert!(handshakes.unvalidated().is_some());
        assert_eq!(handshakes.by_address.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_log_lines_are_counted_not_written() {
        let limit = LogLimit::default();
        assert_eq!(limit.pass(), Some(0));
        assert_eq!(limit.pass(), None);
        assert_eq!(limit.pass(), None);
        tokio::time::advance(LogLimit::INTERVAL).await;
        assert_eq!(limit.pass(), Some(2));
    }
}
