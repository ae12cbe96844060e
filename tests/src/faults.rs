//! A proxy in front of an object store that makes trouble the same way each time: it loses the answers to what the store
//! has done, and it makes weather: slow, throttling, cutting, hanging, gone.
//!
//! It speaks as much HTTP/1.1 as the stores and their clients do. Signatures hold, for nothing of a request is changed.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use socket2::SockRef;

use crate::clock::Deadline;

/// How often a connection that hangs looks whether it still has to.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How the answer to a request that the store has carried out gets lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// The connection is closed.
    Close,
    /// The connection is reset.
    Reset,
    /// Nothing more is heard.
    Hang,
    /// Another answer with this status takes its place.
    Status(u16),
}

/// What all requests meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Nothing.
    Clear,
    /// Each request waits so long.
    Slow(Duration),
    /// The store does nothing and asks to slow down: 503.
    Throttling,
    /// The store works, and every answer is cut off in its middle.
    Cutting,
    /// Connections are taken, and nothing is ever heard.
    Hanging,
    /// Connections are reset.
    Gone,
}

/// A request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// GET, PUT …
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in small letters.
    pub headers: HashMap<String, String>,
    /// Tells requests with the same target apart: a repeated request has the same.
    pub fingerprint: u64,
    head: Vec<u8>,
    body: Vec<u8>,
}

/// Says of a request which kind it is, or that its answer is not to be lost.
pub type Classify = fn(&Request) -> Option<&'static str>;

/// The proxy. Its threads end when it goes, each at the latest when its client does.
#[derive(Debug)]
pub struct FaultProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    state: Mutex<State>,
    connections: Mutex<HashMap<u64, TcpStream>>,
    next_connection: AtomicU64,
    stopped: AtomicBool,
}

#[derive(Debug)]
struct State {
    weather: Weather,
    losing: Option<Losing>,
    requests: Vec<Request>,
}

/// Which answers are lost: the first one to each request of a kind, until `each_max` of that kind are.
#[derive(Debug)]
struct Losing {
    how: Loss,
    classify: Classify,
    each_max: usize,
    seen: HashSet<(String, u64)>,
    lost: HashMap<&'static str, usize>,
}

impl FaultProxy {
    /// Listens on a free port; the weather is clear.
    ///
    /// # Errors
    /// It cannot listen.
    pub fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = State { weather: Weather::Clear, losing: None, requests: Vec::new() };
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            state: Mutex::new(state),
            connections: Mutex::default(),
            next_connection: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accepting = shared.clone();
        std::thread::spawn(move || accept(&listener, &accepting));
        Ok(Self { address, shared })
    }

    /// Where it is, for a store URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on; connections that are open meet it too.
    pub fn set_weather(&self, weather: Weather) {
        self.shared.state().weather = weather;
        if weather == Weather::Gone {
            for connection in lock(&self.shared.connections).values() {
                let _ = connection.shutdown(Shutdown::Both);
            }
        }
    }

    /// Loses the first answer to each request that `classify` names, at most `each_max` of each kind. A repeated request
    /// is answered.
    pub fn lose(&self, how: Loss, each_max: usize, classify: Classify) {
        let (seen, lost) = (HashSet::new(), HashMap::new());
        self.shared.state().losing = Some(Losing { how, classify, each_max, seen, lost });
    }

    /// How many answers were lost, by kind.
    #[must_use]
    pub fn lost(&self) -> HashMap<&'static str, usize> {
        self.shared.state().losing.as_ref().map(|losing| losing.lost.clone()).unwrap_or_default()
    }

    /// All requests so far, without their bodies.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().requests.clone()
    }

    /// Waits until a request comes that fits.
    ///
    /// # Errors
    /// None comes in time.
    pub fn wait_for(&self, what: &str, within: Duration, fits: impl Fn(&Request) -> bool) -> Result<()> {
        Deadline::after(within).wait(what, || Ok(self.shared.state().requests.iter().any(&fits).then_some(())))
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.set_weather(Weather::Gone);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn weather(&self) -> Weather {
        self.state().weather
    }

    /// Notes the request, and says how its answer is to be lost.
    fn judge(&self, request: &Request) -> Option<Loss> {
        let mut state = self.state();
        state.requests.push(Request { body: Vec::new(), ..request.clone() });
        let losing = state.losing.as_mut()?;
        let kind = (losing.classify)(request)?;
        if !losing.seen.insert((request.target.clone(), request.fingerprint)) {
            return None;
        }
        let lost = losing.lost.entry(kind).or_default();
        if *lost == losing.each_max {
            return None;
        }
        *lost += 1;
        Some(losing.how)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for client in listener.incoming() {
        let Ok(client) = client else { return };
        if shared.stopped.load(Ordering::Acquire) {
            return;
        }
        if shared.weather() == Weather::Gone {
            reset(client);
            continue;
        }
        let id = shared.next_connection.fetch_add(1, Ordering::Relaxed);
        let Ok(clone) = client.try_clone() else { continue };
        lock(&shared.connections).insert(id, clone);
        let shared = shared.clone();
        std::thread::spawn(move || {
            // What breaks here is the client's or the store's, and each of them notices.
            let end = carry(&client, &shared).unwrap_or(End::Close);
            lock(&shared.connections).remove(&id);
            match end {
                End::Close => drop(client),
                End::Reset => reset(client),
            }
        });
    }
}

fn reset(client: TcpStream) {
    let _ = SockRef::from(&client).set_linger(Some(Duration::ZERO));
    drop(client);
}

/// How a connection ends.
enum End {
    Close,
    Reset,
}

/// Carries the requests of one connection.
fn carry(mut client: &TcpStream, shared: &Shared) -> Result<End> {
    client.set_nodelay(true)?;
    let mut incoming = BufReader::new(client);
    let mut server: Option<BufReader<TcpStream>> = None;
    while let Some(request) = Request::read(&mut incoming)? {
        let loss = shared.judge(&request);
        match shared.weather() {
            Weather::Clear | Weather::Cutting => {}
            Weather::Slow(time) => std::thread::sleep(time),
            Weather::Throttling => {
                client.write_all(&refusal(503))?;
                continue;
            }
            Weather::Hanging => {
                hang(client, || shared.weather() == Weather::Hanging)?;
                return Ok(End::Close);
            }
            Weather::Gone => return Ok(End::Reset),
        }
        let answer = forward(&mut server, &shared.upstream, &request)?;
        match loss {
            None if shared.weather() == Weather::Cutting => {
                client.write_all(&answer[..answer.len() / 2])?;
                return Ok(End::Close);
            }
            None => client.write_all(&answer)?,
            Some(Loss::Status(status)) => client.write_all(&refusal(status))?,
            Some(Loss::Close) => return Ok(End::Close),
            Some(Loss::Reset) => return Ok(End::Reset),
            Some(Loss::Hang) => {
                hang(client, || true)?;
                return Ok(End::Close);
            }
        }
    }
    Ok(End::Close)
}

/// Waits until the client goes or the reason does.
fn hang(client: &TcpStream, still: impl Fn() -> bool) -> io::Result<()> {
    client.set_read_timeout(Some(LOOK_EVERY))?;
    while still() {
        match client.peek(&mut [0]) {
            Ok(0) => return Ok(()),
            Ok(_) => std::thread::sleep(LOOK_EVERY),
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// What S3 says when it has too much to do, or an inner error.
fn refusal(status: u16) -> Vec<u8> {
    let code = if status == 503 { "SlowDown" } else { "InternalError" };
    let body = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code></Error>");
    let length = body.len();
    format!("HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\r\n{body}")
        .into()
}

/// Has the store carry out a request, and gives its whole answer.
fn forward(server: &mut Option<BufReader<TcpStream>>, upstream: &str, request: &Request) -> Result<Vec<u8>> {
    if server.is_none() {
        let connected = TcpStream::connect(upstream)?;
        connected.set_nodelay(true)?;
        *server = Some(BufReader::new(connected));
    }
    let reader = server.as_mut().context("connected above")?;
    reader.get_mut().write_all(&[request.head.as_slice(), &request.body].concat())?;
    let mut answer = head(reader)?.context("the store closed the connection")?;
    let status: u16 = String::from_utf8_lossy(&answer).split(' ').nth(1).context("a status")?.parse()?;
    let headers = headers(&answer);
    if request.method != "HEAD" && !matches!(status, 204 | 304) {
        answer.extend(body(reader, &headers)?);
    }
    if headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
        *server = None;
    }
    Ok(answer)
}

impl Request {
    fn read(from: &mut BufReader<&TcpStream>) -> Result<Option<Self>> {
        let Some(head) = head(from)? else { return Ok(None) };
        let first = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
        let mut words = first.split(' ').map(str::to_owned);
        let (method, target) = (words.next().context("a method")?, words.next().context("a target")?);
        let headers = headers(&head);
        let body = body(from, &headers)?;
        let mut hasher = DefaultHasher::new();
        (&method, headers.get("if-match"), &body).hash(&mut hasher);
        Ok(Some(Self { method, target, headers, fingerprint: hasher.finish(), head, body }))
    }

    /// Whether the value of the header is this.
    #[must_use]
    pub fn has(&self, header: &str, value: &str) -> bool {
        self.headers.get(header).is_some_and(|found| found == value)
    }
}

/// Everything up to the empty line, or nothing when the connection was closed before.
fn head(from: &mut impl io::BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut head = Vec::new();
    loop {
        let before = head.len();
        if from.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if &head[before..] == b"\r\n" {
            return Ok(Some(head));
        }
    }
}

fn headers(head: &[u8]) -> HashMap<String, String> {
    let text = String::from_utf8_lossy(head);
    let lines = text.lines().skip(1).filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned())).collect()
}

/// The body, as it goes over the wire.
fn body(from: &mut impl io::BufRead, headers: &HashMap<String, String>) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    if headers.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        loop {
            let before = body.len();
            from.read_until(b'\n', &mut body)?;
            let line = String::from_utf8_lossy(&body[before..]).into_owned();
            let length = u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16)?;
            from.take(length + 2).read_to_end(&mut body)?;
            if length == 0 {
                return Ok(body);
            }
        }
    }
    if let Some(length) = headers.get("content-length") {
        let length: u64 = length.parse()?;
        from.take(length).read_to_end(&mut body)?;
        anyhow::ensure!(u64::try_from(body.len())? == length, "the body ends early");
    }
    Ok(body)
}
