//! Strangers' bytes against a real broker. Each attack has its outcome, a bound on the memory that it may cost, and a
//! bystander whose latency it may at most double; no broker logs an ERROR or panics.
//!
//! The attacks run one after another: they measure.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use records::{Builder, Codec, Headers, Timestamp};
use weir_tests::attack::{WITHIN, connect_from, metric, produce_batch, produce_to, raise_files, under, until_closed};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use wire::{ApiKey, ErrorCode, api_versions, create_topics, fetch, list_offsets, produce};

const MIB: u64 = 1 << 20;
/// Where the attacks come from; bystanders are at 127.0.0.1.
const ATTACKER: u8 = 66;

fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn broker(sets: &[&str]) -> Result<Weir> {
    let _ = raise_files();
    Weir::start_with(Options { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Options::default() })
}

fn plain(weir: &Weir) -> Result<SocketAddr> {
    Ok(weir.bootstrap().parse()?)
}

fn attacker(weir: &Weir) -> Result<TcpStream> {
    connect_from(ATTACKER, plain(weir)?)
}

/// A request's frame.
fn frame(key: i16, version: i16, body: &[u8]) -> Result<Vec<u8>> {
    let mut payload = [key.to_be_bytes(), version.to_be_bytes()].concat();
    payload.extend(7_i32.to_be_bytes());
    payload.extend((-1_i16).to_be_bytes());
    payload.extend(body);
    let mut frame = u32::try_from(payload.len())?.to_be_bytes().to_vec();
    frame.extend(payload);
    Ok(frame)
}

#[test]
fn every_frame_of_the_fuzz_corpus_is_answered_or_closes_its_connection() -> Result<()> {
    let _alone = alone();
    let weir = broker(&[])?;
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/frame");
    let files: Vec<_> = std::fs::read_dir(corpus)?.collect::<std::io::Result<_>>()?;
    ensure!(files.len() > 100, "{} files", files.len());
    under(&weir, "the fuzz corpus", 64 * MIB, || {
        let mut open = Vec::new();
        for file in &files {
            let bytes = std::fs::read(file.path())?;
            let framed = [&u32::try_from(bytes.len())?.to_be_bytes()[..], &bytes].concat();
            for sent in [bytes, framed] {
                let mut stream = attacker(&weir)?;
                // It may have been closed already: that is an outcome.
                let _ = stream.write_all(&sent);
                let _ = stream.shutdown(std::net::Shutdown::Write);
                open.push((file.file_name(), stream));
            }
        }
        for (name, mut stream) in open {
            until_closed(&mut stream).with_context(|| format!("{}", name.display()))?;
        }
        Ok(())
    })?;
    weir.finish()
}

#[test]
fn absurd_lengths_unknown_apis_and_versions_close_the_connection_at_once() -> Result<()> {
    let _alone = alone();
    let weir = broker(&[])?;
    let mut attacks = Vec::new();
    for length in [i32::MAX, i32::MIN, -1, 0, 7, (100 << 20) + 1] {
        attacks.push([&length.to_be_bytes()[..], &[0; 100]].concat());
    }
    for key in [-1, 4, 7, 1000, i16::MIN, i16::MAX] {
        attacks.push(frame(key, 0, &[0; 20])?);
    }
    for version in [-1, 2, 99, i16::MIN, i16::MAX] {
        attacks.push(frame(ApiKey::Produce.code(), version, &[0; 20])?);
    }
    attacks.push(frame(ApiKey::Metadata.code(), 12, &[0xff; 20])?);
    under(&weir, "lengths, keys and versions", 32 * MIB, || {
        for _ in 0..20 {
            for sent in &attacks {
                let mut stream = attacker(&weir)?;
                let _ = stream.write_all(sent);
                ensure!(until_closed(&mut stream)?.is_empty(), "{sent:?} was answered");
            }
        }
        Ok(())
    })?;
    // ApiVersions of any version is answered, in version 0: that is how versions are agreed on.
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.send_raw(ApiKey::ApiVersions, 99, &[])?;
    let (_, answer): (i32, api_versions::Response) = connection.receive(0)?;
    ensure!(answer.error_code == ErrorCode::UNSUPPORTED_VERSION.code(), "{answer:?}");
    weir.finish()
}

#[test]
fn ten_thousand_requests_in_one_go_are_answered_in_order() -> Result<()> {
    let _alone = alone();
    const COUNT: i32 = 10_000;
    let weir = broker(&[])?;
    under(&weir, "pipelining", 32 * MIB, || {
        let mut stream = attacker(&weir)?;
        let mut writer = stream.try_clone()?;
        let writing = std::thread::spawn(move || -> Result<()> {
            let mut bytes = Vec::new();
            for number in 0..COUNT {
                let mut one = frame(ApiKey::ApiVersions.code(), 0, &[])?;
                one[8..12].copy_from_slice(&number.to_be_bytes());
                bytes.extend(one);
            }
            Ok(writer.write_all(&bytes)?)
        });
        for number in 0..COUNT {
            let mut head = [0; 8];
            stream.read_exact(&mut head)?;
            let (length, answered) = head.split_at(4);
            ensure!(answered == number.to_be_bytes(), "{answered:?} instead of {number}");
            let mut rest = vec![0; u32::from_be_bytes(length.try_into()?) as usize - 4];
            stream.read_exact(&mut rest)?;
        }
        writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))?
    })?;
    weir.finish()
}

fn client_hello(weir: &Weir) -> Result<Vec<u8>> {
    let settings = tls::ClientSettings { roots: tls::Roots::File(weir.ca()), identity: None };
    let name = rustls::pki_types::ServerName::try_from("localhost")?;
    let mut client = rustls::ClientConnection::new(tls::client_config(&settings)?, name)?;
    let mut hello = Vec::new();
    client.write_tls(&mut hello)?;
    Ok(hello)
}

#[test]
fn hellos_that_are_cut_short_end_their_connection() -> Result<()> {
    let _alone = alone();
    let weir = broker(&["limits.handshake_timeout_ms=1500"])?;
    let hello = client_hello(&weir)?;
    let to: SocketAddr = weir.tls().parse()?;
    under(&weir, "truncated TLS hellos", 64 * MIB, || {
        let mut open = Vec::new();
        for cut in 0..=hello.len() {
            let mut stream = connect_from(ATTACKER, to)?;
            stream.write_all(&hello[..cut])?;
            // Half of them leave, the others wait to be sent away.
            if cut % 2 == 0 {
                stream.shutdown(std::net::Shutdown::Write)?;
            }
            open.push(stream);
        }
        for mut stream in open {
            until_closed(&mut stream)?;
        }
        Ok(())
    })?;
    ensure!(metric(&weir, "weir_connections_refused_total", "handshake")? >= hello.len() as f64 / 2.0);
    weir.finish()
}

#[test]
fn slow_clients_on_plain_tls_and_quic_hold_up_nobody_and_are_sent_away() -> Result<()> {
    let _alone = alone();
    let weir =
        broker(&["limits.handshake_timeout_ms=2000", "limits.idle_timeout_ms=2000", "limits.handshakes_max=200"])?;
    let hello = client_hello(&weir)?;
    let (plain, tls): (SocketAddr, SocketAddr) = (plain(&weir)?, weir.tls().parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let settings = tls::ClientSettings { roots: tls::Roots::File(weir.ca()), identity: None };
    under(&weir, "slow clients", 96 * MIB, || {
        let mut open = Vec::new();
        for _ in 0..300 {
            let mut stream = connect_from(ATTACKER, plain)?;
            stream.write_all(&[0, 0, 1])?;
            open.push(stream);
            let mut stream = connect_from(ATTACKER + 1, tls)?;
            stream.write_all(&hello[..hello.len() / 2])?;
            open.push(stream);
        }
        // First datagrams of QUIC clients that say no more.
        let mut silent = Vec::new();
        for _ in 0..300 {
            let sink = UdpSocket::bind("127.0.0.1:0")?;
            sink.set_read_timeout(Some(WITHIN))?;
            let mut datagram = [0; 2048];
            let length = runtime.block_on(async {
                let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
                let config = tls::quic_client_config(&settings)?;
                let _connecting = endpoint.connect_with(config, sink.local_addr()?, "localhost")?;
                tokio::task::block_in_place(|| anyhow::Ok(sink.recv(&mut datagram)?))
            })?;
            let socket = UdpSocket::bind(("127.0.0.68", 0))?;
            socket.send_to(&datagram[..length], plain)?;
            silent.push(socket);
        }
        // Others get in meanwhile, by every door.
        Connection::open(&weir.bootstrap())?.init_producer_id()?;
        runtime.block_on(async {
            let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse()?)?;
            let connecting = endpoint.connect_with(tls::quic_client_config(&settings)?, plain, "localhost")?;
            tokio::time::timeout(Duration::from_secs(5), connecting).await.context("QUIC is held up")??;
            anyhow::Ok(())
        })?;
        let mut stream = connect_from(1, tls)?;
        let name = rustls::pki_types::ServerName::try_from("localhost")?;
        let mut client = rustls::ClientConnection::new(tls::client_config(&settings)?, name)?;
        Deadline::after(Duration::from_secs(5)).wait("TLS is not held up", || {
            client.complete_io(&mut stream)?;
            Ok((!client.is_handshaking()).then_some(()))
        })?;
        for mut stream in open {
            until_closed(&mut stream)?;
        }
        Ok(())
    })?;
    ensure!(metric(&weir, "weir_quic_retries_total", "")? >= 100.0, "clients beyond the threshold are asked first");
    Deadline::after(WITHIN)
        .wait("all of them are gone", || Ok((metric(&weir, "weir_connections_open", "")? <= 1.0).then_some(())))?;
    weir.finish()
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_one_more_is_refused() -> Result<()> {
    let _alone = alone();
    let files = raise_files();
    let count = usize::try_from(files.saturating_sub(500))?.min(10_000);
    println!("{count} idle connections, of {files} files that a process may open");
    ensure!(count >= 400, "a process may open {files} files only: raise the limit");
    let all = format!("limits.connections_max={}", count + 50);
    let weir = broker(&[&all, "limits.connections_per_address_max=1000"])?;
    let to = plain(&weir)?;
    let each = 1000;
    under(&weir, "idle connections", count as u64 * 24 * 1024 + 32 * MIB, || {
        let mut open = Vec::new();
        for number in 0..count {
            open.push(connect_from(100 + u8::try_from(number / each)?, to)?);
        }
        Deadline::after(WITHIN).wait("all of them are open", || {
            Ok((metric(&weir, "weir_connections_open", "tcp")? >= count as f64).then_some(()))
        })?;
        if count > each {
            ensure!(until_closed(&mut connect_from(100, to)?)?.is_empty(), "an address has more than it may have");
        }
        let mut more: Vec<_> = (0..60).map(|_| connect_from(ATTACKER, to)).collect::<Result<_>>()?;
        Deadline::after(WITHIN).wait("some are refused", || {
            Ok((metric(&weir, "weir_connections_refused_total", "\"connections_max\"")? > 0.0).then_some(()))
        })?;
        ensure!(until_closed(more.last_mut().context("the last one")?)?.is_empty());
        Ok(())
    })?;
    weir.finish()
}

/// A batch of one record whose body inflates to so many zeros.
fn bomb(codec: Codec, inflated: usize) -> Result<Bytes> {
    let mut batch = Builder::new(codec);
    batch.push(Timestamp(1_700_000_000_000), None, Some(b"x"), &Headers::NONE)?;
    let mut bytes = batch.build().to_bytes()[..61].to_vec();
    bytes.extend(codec.deflate(Bytes::from(vec![0; inflated])));
    let length = i32::try_from(bytes.len() - 12)?;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    Ok(bytes.into())
}

/// What each codec makes the most of: zstd 1 GiB out of 100 KiB, the others what fits into a batch of 1 MB.
const BOMBS: [(Codec, usize); 4] =
    [(Codec::Zstd, 1 << 30), (Codec::Gzip, 512 << 20), (Codec::Lz4, 240 << 20), (Codec::Snappy, 18 << 20)];

fn topic_with(connection: &mut Connection, name: &str, config: &[(&str, &str)]) -> Result<()> {
    let config = config.iter().map(|(name, value)| create_topics::CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
        ..Default::default()
    });
    let topic = create_topics::CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: config.collect(),
        ..Default::default()
    };
    let answer: create_topics::Response =
        connection.call(5, &create_topics::Request { topics: vec![topic], ..Default::default() })?;
    ensure!(answer.topics[0].error_code == 0, "{answer:?}");
    Ok(())
}

#[test]
fn compressed_bombs_are_refused_within_their_budget() -> Result<()> {
    let _alone = alone();
    let weir = broker(&["limits.inflated_memory_bytes=268435456"])?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    topic_with(&mut connection, "recompressed", &[("compression.type", "gzip")])?;
    topic_with(&mut connection, "uncompressed", &[("compression.type", "uncompressed")])?;
    topic_with(&mut connection, "compacted", &[("cleanup.policy", "compact")])?;
    for (codec, inflated) in BOMBS {
        let bomb = bomb(codec, inflated)?;
        // A search finds this codec's bomb first.
        let plain = &format!("plain-{codec}");
        topic_with(&mut connection, plain, &[])?;
        println!("{codec}: {} bytes inflate to {inflated}", bomb.len());
        ensure!(bomb.len() <= if codec == Codec::Zstd { 100 << 10 } else { 1 << 20 }, "{} bytes", bomb.len());
        // All that may inflate at once, and as much again for what the allocator and the codecs keep.
        under(&weir, codec.name(), 512 * MIB, || {
            let address = &weir.bootstrap();
            let open = || Connection::open(address);
            std::thread::scope(|scope| {
                let mut attackers = Vec::new();
                for number in 0..8 {
                    let bomb = bomb.clone();
                    attackers.push(scope.spawn(move || -> Result<()> {
                        let topic = ["recompressed", "uncompressed", "compacted"][number % 3];
                        let topic = if codec == Codec::Gzip && number % 3 == 0 { "compacted" } else { topic };
                        let answer = produce_batch(&mut open()?, topic, 0, bomb)?;
                        let code = ErrorCode::from_code(answer.error_code);
                        ensure!(code == ErrorCode::INVALID_RECORD, "{topic}: {code:?}");
                        Ok(())
                    }));
                }
                attackers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("panicked"))?)
            })?;
            // Kept as it is where nobody has to look inside; whoever searches it by time does.
            let answer = produce_batch(&mut open()?, plain, 0, bomb.clone())?;
            ensure!(answer.error_code == 0, "{answer:?}");
            std::thread::scope(|scope| {
                let searches: Vec<_> = (0..4).map(|_| scope.spawn(|| search(address, plain))).collect();
                searches.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("panicked"))?)
            })
        })?;
    }
    weir.finish()
}

/// Looks for a time in the partition whose first batch is a bomb.
fn search(address: &str, topic: &str) -> Result<()> {
    let partition = list_offsets::ListOffsetsPartition { timestamp: 1_600_000_000_000, ..Default::default() };
    let topic =
        list_offsets::ListOffsetsTopic { name: topic.into(), partitions: vec![partition], ..Default::default() };
    let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
    let answer: list_offsets::Response = Connection::open(address)?.call(9, &request)?;
    let code = ErrorCode::from_code(answer.topics[0].partitions[0].error_code);
    ensure!(code == ErrorCode::KAFKA_STORAGE_ERROR, "{code:?}");
    Ok(())
}

/// A produce request for so many partitions, of which each brings almost nothing.
fn tiny_partitions(count: i32) -> Result<Vec<u8>> {
    let data = |index| produce::PartitionProduceData {
        index,
        records: Some(Bytes::from_static(&[0; 8]).into()),
        ..Default::default()
    };
    let partition_data = (0..count).map(data).collect();
    let topic = produce::TopicProduceData { name: "tiny".into(), partition_data, ..Default::default() };
    let body = produce::Request { acks: -1, timeout_ms: 1000, topic_data: vec![topic], ..Default::default() };
    let header = wire::RequestHeader {
        api_key: ApiKey::Produce.code(),
        api_version: 9,
        correlation_id: 1,
        client_id: Some("attacker".into()),
    };
    Ok(wire::encode_request(&header, &body)?.into_bytes().to_vec())
}

#[test]
fn requests_of_very_many_tiny_partitions_keep_to_their_budget() -> Result<()> {
    let _alone = alone();
    let budget = 32 * MIB;
    let sets = [format!("limits.requests_memory_bytes={budget}"), format!("limits.request_bytes_max={}", 16 * MIB)];
    let weir = broker(&[&sets[0], &sets[1]])?;
    Connection::open(&weir.bootstrap())?.create_topic("tiny", 1)?;
    // So many that they could never fit, though their bytes do.
    let absurd = tiny_partitions(200_000)?;
    // And as many as fit, again and again.
    let large = tiny_partitions(20_000)?;
    println!("{} and {} bytes", absurd.len(), large.len());
    let to = plain(&weir)?;
    under(&weir, "tiny partitions", budget, || {
        std::thread::scope(|scope| {
            let mut attackers = Vec::new();
            for number in 0..8 {
                let (absurd, large) = (&absurd, &large);
                attackers.push(scope.spawn(move || -> Result<()> {
                    for _ in 0..3 {
                        let mut stream = connect_from(ATTACKER, to)?;
                        if number < 4 {
                            let _ = stream.write_all(absurd);
                            ensure!(until_closed(&mut stream)?.is_empty(), "200,000 partitions were answered");
                            continue;
                        }
                        stream.write_all(large)?;
                        let mut length = [0; 4];
                        stream.read_exact(&mut length)?;
                        let mut answer = vec![0; u32::from_be_bytes(length).try_into()?];
                        stream.read_exact(&mut answer)?;
                        ensure!(answer.len() > 20_000 * 20, "{} bytes are no answer for each", answer.len());
                    }
                    Ok(())
                }));
            }
            attackers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("panicked"))?)
        })
    })?;
    weir.finish()
}

const PARTITIONS: i32 = 1000;
const PARTITION_BYTES: usize = 64 << 10;

/// A request for all partitions, as large as it can be said.
fn greedy() -> fetch::Request {
    let partition =
        |partition| fetch::FetchPartition { partition, partition_max_bytes: i32::MAX, ..Default::default() };
    let partitions = (0..PARTITIONS).map(partition).collect();
    let topic = fetch::FetchTopic { topic: "large".into(), partitions, ..Default::default() };
    fetch::Request { max_bytes: i32::MAX, min_bytes: 1, max_wait_ms: 500, topics: vec![topic], ..Default::default() }
}

#[test]
fn clients_that_take_no_answers_and_fetches_of_a_thousand_partitions_are_bounded() -> Result<()> {
    let _alone = alone();
    let budget = 64 * MIB;
    let answers = format!("limits.answers_memory_bytes={budget}");
    // What was just written is not in memory: each fetch has to read for itself.
    let weir = broker(&[&answers, "limits.write_timeout_ms=3000", "cache.tail_bytes=1048576"])?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic("large", PARTITIONS)?;
    let value = vec![b'x'; PARTITION_BYTES];
    let mut batch = Builder::new(Codec::None);
    batch.push(Timestamp(1_700_000_000_000), None, Some(&value), &Headers::NONE)?;
    let batch = batch.build().to_bytes();
    let data =
        |index| produce::PartitionProduceData { index, records: Some(batch.clone().into()), ..Default::default() };
    for first in (0..PARTITIONS).step_by(250) {
        let partition_data = (first..first + 250).map(data).collect();
        let topic = produce::TopicProduceData { name: "large".into(), partition_data, ..Default::default() };
        let request = produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        let answer: produce::Response = connection.call(9, &request)?;
        ensure!(answer.responses[0].partition_responses.iter().all(|done| done.error_code == 0), "{answer:?}");
    }
    under(&weir, "a fetch of a thousand partitions", budget + 96 * MIB, || {
        let answer: fetch::Response = connection.call(12, &greedy())?;
        ensure!(answer.error_code == 0 && answer.responses[0].partitions.len() == 1000, "{}", answer.error_code);
        let records = answer.responses[0].partitions.iter().filter_map(|one| one.records.as_ref());
        let bytes: usize = records.map(wire::Records::len).sum();
        ensure!(bytes > 1 << 20 && bytes as u64 <= budget / 2, "{bytes} bytes of records");
        Ok(())
    })?;
    under(&weir, "clients that take no answers", budget + 96 * MIB, || {
        let mut silent = Vec::new();
        for _ in 0..40 {
            let mut connection = Connection::open(&weir.bootstrap())?;
            for _ in 0..8 {
                connection.send(12, &greedy())?;
            }
            silent.push(connection);
        }
        // Those who take theirs are served meanwhile.
        let mut other = Connection::open(&weir.bootstrap())?;
        for _ in 0..20 {
            produce_to(&mut other, "large", 7, b"more")?;
            let (batches, _) = other.fetch("large", 7, records::Offset(1))?;
            ensure!(!batches.is_empty(), "nothing was read");
        }
        // Those whose answers do not fit into the system's own buffers are disconnected; nothing waits for the others.
        Deadline::after(WITHIN).wait("silent ones are disconnected and their memory is given back", || {
            let closed = metric(&weir, "weir_connections_closed_total", "\"write_timeout\"")?
                + metric(&weir, "weir_connections_closed_total", "\"slow_reader\"")?;
            let waiting = metric(&weir, "weir_answer_bytes ", "")?;
            Ok((closed >= 3.0 && waiting <= 1.0).then_some(()))
        })
    })?;
    weir.finish()
}
