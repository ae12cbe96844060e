//! The connection handler over a pipe in memory. Time is paused: where nothing else can happen it jumps to the next
//! timer, so "never" can be told from "not yet" without waiting.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    Address, Context, Front, Limits, ListenerInfo, Metrics, Peer, Threads, Transport,
    connection::{Connection, End},
    test_service::{Script, ask, closed, receive, receive_numbers, request, send},
};

const LONG: Duration = Duration::from_secs(60);

/// A connection that is being served.
struct Served {
    client: DuplexStream,
    script: Arc<Script>,
    front: Arc<Front>,
    shutdown: CancellationToken,
    end: JoinHandle<Option<End>>,
}

impl Served {
    /// `pipe` is how many bytes fit between the two ends.
    fn new(limits: Limits, pipe: usize) -> Self {
        Self::of(&Front::new(limits, Metrics::default()), pipe)
    }

    fn of(front: &Arc<Front>, pipe: usize) -> Self {
        let (client, server) = tokio::io::duplex(pipe);
        let (reader, writer) = tokio::io::split(server);
        Self::over(front, client, reader, writer)
    }

    fn over<R, W>(front: &Arc<Front>, client: DuplexStream, reader: R, mut writer: W) -> Self
    where
        R: tokio::io::AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let advertised = Address { host: "localhost".into(), port: 9092 };
        let listener = ListenerInfo { name: "test".into(), transport: Transport::Tcp, advertised };
        let (script, shutdown) = (Script::new(), CancellationToken::new());
        let peer = Peer::Fixed("127.0.0.1:1".parse().unwrap());
        let context = Context::new(
            1,
            Arc::new(listener),
            peer,
            Arc::default(),
            Arc::clone(&front.limits),
            Arc::clone(&front.answers),
        );
        let metrics = front.metrics.of_listener("test", Transport::Tcp);
        let connection = Connection::new(context, Arc::clone(front), metrics, shutdown.clone());
        let service = Arc::clone(&script);
        let (thread, _turn) = front.threads.next();
        let end = thread.spawn(async move {
            let front = Arc::clone(&connection.front);
            let served = connection.serve(&service, reader, &mut writer);
            front.watch(&connection.context, &connection.metrics, served).await
        });
        Self { client, script, front: Arc::clone(front), shutdown, end }
    }

    /// How it ended; everything that it held is given back.
    async fn end(self) -> End {
        let end = timeout(2 * LONG, self.end).await.expect("it ends").unwrap().expect("no panic");
        let metrics = self.front.metrics.of_listener("test", Transport::Tcp);
        assert_eq!(metrics.in_flight.get(), 0);
        end
    }
}

#[tokio::test(start_paused = true)]
async fn answers_leave_in_order_whichever_is_ready_first() {
    let mut served = Served::new(Limits::default(), 4096);
    send(&mut served.client, "wait", 1).await;
    send(&mut served.client, "wait", 2).await;
    send(&mut served.client, "echo", 3).await;
    served.script.started(3).await;
    served.script.release(2);
    assert!(timeout(LONG, served.client.read_u8()).await.is_err(), "an answer overtook the first");
    served.script.release(1);
    assert_eq!(receive_numbers(&mut served.client, 3).await, [1, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_does_not_stop_reading_before_the_bound() {
    let mut served = Served::new(Limits { requests_in_flight_max: 4, ..Limits::default() }, 4096);
    send(&mut served.client, "wait", 0).await;
    for number in 1..=10 {
        send(&mut served.client, "echo", number).await;
    }
    assert!(timeout(LONG, std::future::pending::<()>()).await.is_err());
    assert_eq!(served.script.started_now(), 4, "at the bound reading stops, not earlier and not later");
    served.script.release(0);
    assert_eq!(receive_numbers(&mut served.client, 11).await, (0..=10).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_disconnected_where_memory_is_short_and_only_there() {
    for (answer_bytes_max, short) in [(1 << 20, true), (64 << 20, false)] {
        let mut served = Served::new(Limits { answer_bytes_max, ..Limits::default() }, 4096);
        send(&mut served.client, "size", 2 << 20).await;
        let trickle = async {
            while served.client.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        // It takes a byte each second, so that it never falls silent.
        assert!(timeout(LONG, trickle).await.is_err());
        assert_eq!(served.end.is_finished(), short, "with {answer_bytes_max} bytes for answers");
        if short {
            assert!(served.front.answers.try_reserve(1).is_some(), "what it held is given back");
            assert!(matches!(served.end().await, End::SlowReader));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn requests_without_an_answer_leave_no_gap() {
    let mut served = Served::new(Limits { requests_in_flight_max: 2, ..Limits::default() }, 4096);
    for (number, command) in ["none", "zero", "echo", "zero", "none", "none", "echo"].iter().enumerate() {
        send(&mut served.client, command, u32::try_from(number).unwrap()).await;
    }
    assert_eq!(receive_numbers(&mut served.client, 2).await, [2, 6]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_closes_is_preceded_by_all_earlier_answers() {
    let mut served = Served::new(Limits::default(), 4096);
    for (command, number) in [("wait", 1), ("echo", 2), ("shut", 3), ("echo", 4)] {
        send(&mut served.client, command, number).await;
    }
    served.script.started(3).await;
    served.script.release(1);
    assert_eq!(receive_numbers(&mut served.client, 2).await, [1, 2]);
    closed(&mut served.client).await;
    assert_eq!(served.script.started_now(), 3);
    assert!(matches!(served.end().await, End::Service(_)));
}

#[tokio::test(start_paused = true)]
async fn a_hostile_length_closes_after_the_earlier_answers() {
    for length in [-1_i32, 0, 7, i32::MAX, i32::MIN] {
        let mut served = Served::new(Limits::default(), 4096);
        send(&mut served.client, "echo", 1).await;
        served.client.write_all(&length.to_be_bytes()).await.unwrap();
        assert_eq!(receive_numbers(&mut served.client, 1).await, [1]);
        closed(&mut served.client).await;
        let End::Protocol(reason) = served.end().await else { panic!("another end") };
        assert!(reason.contains(&length.to_string()), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_frame_is_taken_up_to_the_limit_and_not_a_byte_more() {
    let limits = Limits { frame_bytes_max: 200_000, ..Limits::default() };
    let mut served = Served::new(limits.clone(), 1 << 20);
    let largest = request("echo", 1, &vec![7; 200_000 - 8]);
    served.client.write_all(&largest).await.unwrap();
    assert!(receive(&mut served.client).await == largest[4..]);
    served.client.write_all(&request("echo", 1, &vec![7; 200_000 - 7])).await.unwrap();
    closed(&mut served.client).await;
    assert!(matches!(served.end().await, End::Protocol(_)));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_disconnected() {
    let limits = Limits { write_timeout: Duration::from_secs(7), requests_in_flight_max: 2, ..Limits::default() };
    let mut served = Served::new(limits, 64);
    let begun = Instant::now();
    send(&mut served.client, "size", 1_000_000).await;
    send(&mut served.client, "wait", 1).await;
    served.script.started(2).await;
    let (script, client) = (Arc::clone(&served.script), std::mem::replace(&mut served.client, tokio::io::duplex(1).0));
    assert!(matches!(served.end().await, End::WriteTimeout));
    assert_eq!(begun.elapsed().as_secs(), 7);
    script.dropped(1).await;
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_served_as_long_as_it_reads() {
    let mut served = Served::new(Limits { write_timeout: Duration::from_secs(7), ..Limits::default() }, 64);
    send(&mut served.client, "size", 640).await;
    let mut payload = Vec::new();
    while payload.len() < 644 {
        tokio::time::advance(Duration::from_secs(6)).await;
        let mut some = [0; 64];
        let count = served.client.read(&mut some).await.unwrap();
        assert!(count > 0, "closed after {} bytes", payload.len());
        payload.extend_from_slice(&some[..count]);
    }
    assert_eq!(&payload[4..], [b'x'; 640]);
}

#[tokio::test(start_paused = true)]
async fn a_disconnect_drops_what_nobody_waits_for() {
    let mut served = Served::new(Limits::default(), 4096);
    send(&mut served.client, "wait", 1).await;
    send(&mut served.client, "wait", 2).await;
    served.script.started(2).await;
    drop(std::mem::replace(&mut served.client, tokio::io::duplex(1).0));
    served.script.dropped(2).await;
    assert!(matches!(served.end().await, End::ClientClosed));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_closed_its_sending_side_still_gets_its_answers() {
    let mut served = Served::new(Limits::default(), 4096);
    send(&mut served.client, "wait", 1).await;
    send(&mut served.client, "echo", 2).await;
    served.client.shutdown().await.unwrap();
    served.script.started(2).await;
    served.script.release(1);
    assert_eq!(receive_numbers(&mut served.client, 2).await, [1, 2]);
    closed(&mut served.client).await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_unless_an_answer_is_awaited() {
    let limits = Limits { idle_timeout: Duration::from_secs(600), ..Limits::default() };
    let mut served = Served::new(limits, 4096);
    send(&mut served.client, "wait", 1).await;
    served.script.started(1).await;
    assert!(timeout(Duration::from_secs(3300), served.client.read_u8()).await.is_err(), "closed while waiting");
    served.script.release(1);
    assert_eq!(receive_numbers(&mut served.client, 1).await, [1]);
    let begun = Instant::now();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(3000), served.client.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!((600..=1200).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert!(matches!(served.end().await, End::Idle));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_finishes_what_was_begun_and_begins_nothing() {
    let mut served = Served::new(Limits::default(), 4096);
    send(&mut served.client, "wait", 1).await;
    send(&mut served.client, "echo", 2).await;
    served.script.started(2).await;
    served.shutdown.cancel();
    send(&mut served.client, "echo", 3).await;
    assert!(timeout(Duration::from_secs(2), served.client.read_u8()).await.is_err());
    served.script.release(1);
    assert_eq!(receive_numbers(&mut served.client, 2).await, [1, 2]);
    closed(&mut served.client).await;
    assert_eq!(served.script.started_now(), 2);
    assert!(matches!(served.end().await, End::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_not_wait_for_ever() {
    let limits = Limits { shutdown_grace: Duration::from_secs(3), ..Limits::default() };
    let mut served = Served::new(limits, 4096);
    send(&mut served.client, "wait", 1).await;
    served.script.started(1).await;
    let begun = Instant::now();
    served.shutdown.cancel();
    closed(&mut served.client).await;
    assert_eq!(begun.elapsed().as_secs(), 3);
    assert_eq!(served.script.dropped_now(), 1);
    assert!(matches!(served.end().await, End::Shutdown));
}

#[tokio::test(start_paused = true)]
async fn throttling_delays_the_next_request_not_the_answer() {
    let mut served = Served::new(Limits::default(), 4096);
    let begun = Instant::now();
    send(&mut served.client, "slow", 5).await;
    send(&mut served.client, "echo", 1).await;
    assert_eq!(receive_numbers(&mut served.client, 1).await, [5]);
    assert_eq!(begun.elapsed().as_secs(), 0);
    assert_eq!(receive_numbers(&mut served.client, 1).await, [1]);
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_budget_of_request_bytes_is_shared_and_comes_back() {
    let limits = Limits { request_bytes_in_flight_max: 64 << 10, ..Limits::default() };
    let front = Front::new(limits, Metrics::default());
    let (mut a, mut b) = (Served::of(&front, 1 << 20), Served::of(&front, 1 << 20));
    a.client.write_all(&request("wait", 1, &[0; 40 << 10])).await.unwrap();
    a.script.started(1).await;
    b.client.write_all(&request("echo", 2, &[0; 40 << 10])).await.unwrap();
    assert!(timeout(LONG, b.client.read_u8()).await.is_err());
    assert_eq!(b.script.started_now(), 0, "no room in the budget");
    a.script.release(1);
    assert_eq!(receive_numbers(&mut b.client, 1).await, [2]);
    // Larger than the whole budget: it takes all of it, alone.
    a.client.write_all(&request("echo", 3, &[0; 90 << 10])).await.unwrap();
    assert_eq!(receive_numbers(&mut a.client, 2).await, [1, 3]);
    drop((
        std::mem::replace(&mut a.client, tokio::io::duplex(1).0),
        std::mem::replace(&mut b.client, tokio::io::duplex(1).0),
    ));
    a.end().await;
    b.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_would_take_more_than_the_budget_closes_its_connection() {
    let limits = Limits { request_bytes_in_flight_max: 64 << 10, ..Limits::default() };
    let mut served = Served::new(limits, 4096);
    send(&mut served.client, "much", 64 << 10).await;
    send(&mut served.client, "echo", 1).await;
    assert_eq!(receive_numbers(&mut served.client, 2).await, [64 << 10, 1]);
    send(&mut served.client, "much", (64 << 10) + 1).await;
    closed(&mut served.client).await;
    assert!(matches!(served.end.await.expect("the task lives"), Some(End::Protocol(_))));
}

#[tokio::test(start_paused = true)]
async fn a_panic_ends_the_connection_only() {
    let mut served = Served::new(Limits::default(), 4096);
    send(&mut served.client, "boom", 1).await;
    closed(&mut served.client).await;
    assert!(served.end.await.expect("the task lives").is_none());
    assert_eq!(served.front.metrics.of_listener("test", Transport::Tcp).in_flight.get(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_request_holds_up_no_other_connection_of_its_thread() {
    let front = Front::on_threads(Limits::default(), Metrics::default(), Threads::start(1).unwrap());
    let (mut a, mut b) = (Served::of(&front, 4096), Served::of(&front, 4096));
    send(&mut a.client, "long", 1).await;
    send(&mut a.client, "echo", 2).await;
    a.script.started(1).await;
    ask(&mut b.client, "echo", 3).await;
    a.script.release(1);
    assert_eq!(receive_numbers(&mut a.client, 2).await, [1, 2]);
    a.script.release(u32::MAX);
    send(&mut a.client, "long", u32::MAX).await;
    closed(&mut a.client).await;
    assert!(a.end.await.expect("the task lives").is_none(), "a panic elsewhere ends the connection");
    ask(&mut b.client, "echo", 4).await;
}

#[tokio::test(start_paused = true)]
async fn long_answers_survive_a_narrow_pipe() {
    for pipe in [1, 3, 7, 100] {
        let mut served = Served::new(Limits::default(), pipe);
        let payload: Vec<u8> = (0..3000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
        let (mut reader, mut writer) = tokio::io::split(served.client);
        let bytes: Vec<u8> = (0..5).flat_map(|number| request("echo", number, &payload)).collect();
        let sending = tokio::spawn(async move { writer.write_all(&bytes).await });
        for number in 0..5 {
            assert_eq!(receive(&mut reader).await, request("echo", number, &payload)[4..], "pipe of {pipe}");
        }
        sending.await.unwrap().unwrap();
        served.client = tokio::io::duplex(1).0;
    }
}

/// A writer that counts how often it is called.
struct Counting<W> {
    inner: W,
    writes: Arc<AtomicUsize>,
    flushes: Arc<AtomicUsize>,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Counting<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        self.flushes.fetch_add(1, Ordering::Relaxed);
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[tokio::test(start_paused = true)]
async fn answers_that_are_ready_together_leave_in_one_write() {
    let (client, server) = tokio::io::duplex(1 << 20);
    let (reader, inner) = tokio::io::split(server);
    let (writes, flushes) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let writer = Counting { inner, writes: Arc::clone(&writes), flushes: Arc::clone(&flushes) };
    let front = Front::new(Limits::default(), Metrics::default());
    let mut served = Served::over(&front, client, reader, writer);
    send(&mut served.client, "wait", 0).await;
    for number in 1..=20 {
        send(&mut served.client, "echo", number).await;
    }
    served.script.started(21).await;
    served.script.release(0);
    assert_eq!(receive_numbers(&mut served.client, 21).await, (0..=20).collect::<Vec<_>>());
    assert_eq!((writes.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed)), (1, 1));
    ask(&mut served.client, "echo", 1).await;
    assert_eq!((writes.load(Ordering::Relaxed), flushes.load(Ordering::Relaxed)), (2, 2));
}
