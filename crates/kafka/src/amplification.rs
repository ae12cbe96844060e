//! No more than three times what came from an address goes there before it has shown that it receives (RFC 9000, 8.1).
//!
//! The QUIC library keeps to that bound but for the datagram that reaches it, which it lets go out whole. This socket,
//! between it and the system, drops what would pass the bound: to the library it is lost, and sent again once the client
//! has sent more. A client that is there never notices, for it acknowledges what it gets with datagrams of 1200 bytes.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// What a first datagram has at least; smaller ones begin no connection (RFC 9000, 14.1).
const FIRST_DATAGRAM_BYTES: u64 = 1200;
const FACTOR: u64 = 3;

/// What came from an address, and went there.
#[derive(Debug, Default, Clone, Copy)]
struct Balance {
    /// Handshakes of this address that have not shown it; several may come from one.
    handshakes: usize,
    received: u64,
    sent: u64,
}

/// The addresses that have not shown that they receive.
#[derive(Debug, Default)]
pub(crate) struct Balances {
    by_address: Mutex<HashMap<SocketAddr, Balance>>,
    /// How many there are, so that nobody takes the lock while there are none.
    count: AtomicUsize,
}

/// A handshake with a client that has not shown its address. When it is dropped, the handshake is over.
#[derive(Debug)]
pub(crate) struct Unshown {
    balances: Arc<Balances>,
    address: SocketAddr,
}

impl Balances {
    /// A first datagram came from there. What goes there is counted from now on.
    pub(crate) fn begin(self: &Arc<Self>, address: SocketAddr) -> Unshown {
        let mut by_address = self.by_address.lock();
        let balance = by_address.entry(address).or_default();
        balance.handshakes += 1;
        balance.received += FIRST_DATAGRAM_BYTES;
        self.count.store(by_address.len(), Ordering::Release);
        Unshown { balances: Arc::clone(self), address }
    }

    fn are_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    fn received(&self, from: SocketAddr, bytes: usize) {
        if let Some(balance) = self.by_address.lock().get_mut(&from) {
            balance.received += bytes as u64;
        }
    }

    /// Whether so many bytes may go there.
    fn may_send(&self, to: SocketAddr, bytes: usize) -> bool {
        let by_address = self.by_address.lock();
        by_address.get(&to).is_none_or(|balance| balance.sent + bytes as u64 <= balance.received * FACTOR)
    }

    fn sent(&self, to: SocketAddr, bytes: usize) {
        if let Some(balance) = self.by_address.lock().get_mut(&to) {
            balance.sent += bytes as u64;
        }
    }
}

impl Drop for Unshown {
    fn drop(&mut self) {
        let mut by_address = self.balances.by_address.lock();
        if let Some(balance) = by_address.get_mut(&self.address) {
            balance.handshakes -= 1;
            if balance.handshakes == 0 {
                by_address.remove(&self.address);
            }
        }
        self.balances.count.store(by_address.len(), Ordering::Release);
    }
}

/// A socket that keeps to the bound.
pub(crate) struct Bounded {
    socket: Arc<dyn AsyncUdpSocket>,
    balances: Arc<Balances>,
}

impl Bounded {
    pub(crate) fn new(socket: Arc<dyn AsyncUdpSocket>, balances: Arc<Balances>) -> Self {
        Self { socket, balances }
    }
}

impl fmt::Debug for Bounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounded").field(&self.socket).finish()
    }
}

impl AsyncUdpSocket for Bounded {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.socket).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        if self.balances.are_empty() {
            return self.socket.try_send(transmit);
        }
        let (to, bytes) = (transmit.destination, transmit.contents.len());
        if !self.balances.may_send(to, bytes) {
            return Ok(());
        }
        self.socket.try_send(transmit)?;
        self.balances.sent(to, bytes);
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received
            && !self.balances.are_empty()
        {
            meta.iter().take(*count).for_each(|one| self.balances.received(one.addr, one.len));
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_times_what_came_goes_out_and_not_a_byte_more() {
        let balances = Arc::new(Balances::default());
        let (a, b) = ("10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap());
        assert!(balances.are_empty());
        let first = balances.begin(a);
        assert!(balances.may_send(a, 3600) && !balances.may_send(a, 3601));
        balances.sent(a, 3500);
        assert!(balances.may_send(a, 100) && !balances.may_send(a, 101));
        balances.received(a, 50);
        assert!(balances.may_send(a, 250) && !balances.may_send(a, 251));
        assert!(balances.may_send(b, 1 << 20), "others have shown theirs");
        let second = balances.begin(a);
        drop(first);
        assert!(!balances.may_send(a, 1 << 20), "the other handshake goes on");
        drop(second);
        assert!(balances.may_send(a, 1 << 20) && balances.are_empty());
    }
}
