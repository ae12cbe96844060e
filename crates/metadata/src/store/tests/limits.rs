//! What it costs: requests and time.

use super::*;

#[tokio::test(start_paused = true)]
async fn an_idle_controller_puts_nothing_and_asks_rarely() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    start(&handle).await;
    // Enough that everything in the background has had something to do.
    for n in 0..2_100u128 {
        let changes = vec![ConfigChange { key: "message.max.bytes".into(), op: ConfigOp::Set(n.to_string()) }];
        submit(&handle, Command::AlterBrokerConfigs { broker: None, changes, replace: false }).await;
    }
    let busy = ground.store.take_counts();
    assert!(busy["PUT"] < 2_200, "{busy:?}");
    tokio::time::sleep(Duration::from_secs(3 * 3600)).await;
    let settling = ground.store.take_counts();
    for hour in 0..3 {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let counts = ground.store.take_counts();
        println!("requests of hour {hour}: {counts:?} (busy {busy:?}, then {settling:?})");
        assert_eq!(counts.get("PUT"), None, "{counts:?}");
        assert!(counts.values().sum::<u64>() <= 400, "{counts:?}");
    }
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_never_did_anything_puts_nothing() {
    let ground = Ground::new();
    let controller = ground.open().await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    let opening = ground.store.take_counts();
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let counts = ground.store.take_counts();
    println!("requests of an hour: {counts:?} (opening {opening:?})");
    assert_eq!(counts.get("PUT"), None, "{counts:?}");
    assert!(counts.values().sum::<u64>() <= 400, "{counts:?}");
    controller.close().await;
}

async fn timed<T>(what: &str, most: Duration, work: impl Future<Output = T>) -> T {
    let started = tokio::time::Instant::now();
    let done = work.await;
    let took = started.elapsed();
    println!("{what}: {took:?}");
    assert!(took < most, "{what} took {took:?}");
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_are_no_burden() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let journal = start(&handle).await;
    let most = Duration::from_secs(3);
    timed("creating a topic of 10,000 partitions", most, submit(&handle, create("t", 1, 10_000))).await;
    let partitions: Vec<_> = (0..10_000).map(|partition| tp(1, partition)).collect();
    timed("committing an object of 10,000 extents", most, submit(&handle, commit(journal, 0, &partitions))).await;
    timed("committing an object of one extent", most, submit(&handle, commit(journal, 1, &partitions[..1]))).await;
    let next = start(&handle).await;
    submit(&handle, Command::RecoverJournal { journal, by: BrokerId(1) }).await;
    let starts = partitions.iter().skip(1).map(|of| (*of, Offset(12)).into()).collect();
    let seal = Command::SealJournal {
        journal,
        epoch: 1,
        end: Some(Position(500)),
        successor: next,
        partitions: starts,
        at: AT,
    };
    timed("sealing a journal of 10,000 partitions", most, submit(&handle, seal)).await;
    let image = handle.image();
    drop(controller);
    let controller = timed("opening after a crash", most, ground.open()).await;
    assert_eq!(*controller.handle().image(), *image);
    controller.close().await;
    let controller = timed("opening after a close", most, ground.open()).await;
    assert_eq!(*controller.handle().image(), *image);
    let handle = controller.handle();
    timed("looking up 200 extents", most, async {
        for of in partitions.iter().step_by(50) {
            assert_eq!(handle.extents(*of, Offset(3), 1).await.unwrap().len(), 1);
        }
    })
    .await;
    timed("1,000 commands one after another", Duration::from_secs(20), async {
        for _ in 0..1000 {
            submit(&handle, Command::AllocateProducerIds { count: 1 }).await;
        }
    })
    .await;
    controller.close().await;
}
