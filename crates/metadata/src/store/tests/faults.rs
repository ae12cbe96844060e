//! What the store and other brokers can do to a controller.

use futures::FutureExt;

use super::database::Database;
use super::faulty::Fault;
use super::*;

/// Allocates ten producer ids: a command that shows when it is carried out twice.
fn allocate() -> Command {
    Command::AllocateProducerIds { count: 10 }
}

fn first_id(reply: Result<Reply, SubmitError>) -> i64 {
    match reply {
        Ok(Reply::ProducerIds { first, .. }) => first.0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_that_lost_the_database_answers_nothing_as_done() {
    let ground = Ground::new();
    let first = ground.open().await;
    start(&first.handle()).await;
    let second = ground.open().await;
    assert_eq!(*second.handle().image(), *first.handle().image());
    let before = first.handle().image();
    let late = futures::future::join_all((0..20u128).map(|n| {
        let handle = first.handle();
        async move { handle.submit(create(&format!("t{n}"), n + 1, 1)).await }
    }))
    .await;
    assert!(late.iter().all(|answer| *answer == Err(SubmitError::Fenced)), "{late:?}");
    assert_eq!(first.handle().stopped().await, StopReason::Fenced);
    assert_eq!(*first.handle().image(), *before);
    assert_eq!(first.handle().submit(allocate()).await, Err(SubmitError::Fenced));
    assert_eq!(first.close().await, StopReason::Fenced);
    submit(&second.handle(), create("t", 1, 1)).await;
    second.close().await;
    let third = ground.open().await;
    assert_eq!(third.handle().image().topics.len(), 1);
    third.close().await;
}

#[tokio::test(start_paused = true)]
async fn of_openers_at_once_one_can_write_at_the_end() {
    let ground = Ground::new();
    let opened = futures::future::join_all((0..4).map(|_| Controller::open(ground.options.clone()))).await;
    let mut writers = 0;
    for controller in opened.iter().flatten() {
        match controller.handle().submit(allocate()).await {
            Ok(_) => writers += 1,
            Err(SubmitError::Fenced) => {}
            Err(other) => panic!("{other:?}"),
        }
    }
    assert_eq!(writers, 1);
    for controller in opened.into_iter().flatten() {
        controller.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn throttling_only_slows_us() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    assert_eq!(first_id(handle.submit(allocate()).await), 1);
    ground.store.next_log_puts(100, Fault::Throttled);
    let started = tokio::time::Instant::now();
    assert_eq!(first_id(handle.submit(allocate()).await), 11);
    assert!(started.elapsed() > Duration::from_secs(30), "100 tries with pauses take their time");
    assert_eq!(first_id(handle.submit(allocate()).await), 21);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_no_second_batch() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    for round in 0..5 {
        ground.store.next_log_puts(1, Fault::AnswerLost);
        assert_eq!(first_id(handle.submit(allocate()).await), 1 + round * 10);
    }
    assert_eq!(handle.image().revision, 5);
    controller.close().await;
    let controller = ground.open().await;
    assert_eq!(controller.handle().image().revision, 5);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_that_cannot_be_told_from_a_fence_is_not_answered_as_done() {
    let ground = Ground::on(TestStore::without_attributes());
    let controller = ground.open().await;
    let handle = controller.handle();
    assert_eq!(first_id(handle.submit(allocate()).await), 1);
    ground.store.next_log_puts(1, Fault::AnswerLost);
    assert_eq!(handle.submit(allocate()).await, Err(SubmitError::Fenced));
    assert_eq!(controller.close().await, StopReason::Fenced);
    // It was written: the next controller has it, once.
    let controller = ground.open().await;
    assert_eq!(controller.handle().image().revision, 2);
    assert_eq!(first_id(controller.handle().submit(allocate()).await), 21);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_conflict_without_a_winner_is_no_fence() {
    let ground = Ground::new();
    ground.store.next_log_puts(2, Fault::NobodyWon);
    let controller = ground.open().await;
    let handle = controller.handle();
    for round in 0..5 {
        ground.store.next_log_puts(3, Fault::NobodyWon);
        assert_eq!(first_id(handle.submit(allocate()).await), 1 + round * 10);
    }
    drop(controller);
    let controller = ground.open().await;
    assert_eq!(controller.handle().image().revision, 5);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn an_unclear_write_is_carried_out_once() {
    for fault in [Fault::Refused, Fault::DoneAndRefused] {
        let ground = Ground::new();
        let controller = ground.open().await;
        let handle = controller.handle();
        assert_eq!(first_id(handle.submit(allocate()).await), 1);
        ground.store.next_log_puts(1, fault);
        assert_eq!(first_id(handle.submit(allocate()).await), 11, "{fault:?}");
        assert_eq!(first_id(handle.submit(allocate()).await), 21, "{fault:?}");
        // And again, with a command that is not harmless to repeat.
        ground.store.next_log_puts(1, fault);
        start(&handle).await;
        let image = handle.image();
        assert_eq!((image.revision, image.brokers.len()), (5, 1), "{fault:?}");
        // Reads go to the new opening as well.
        assert_eq!(controller.local.garbage_after(None, 1).await.unwrap(), []);
        drop(controller);
        let again = ground.open().await;
        assert_eq!(*again.handle().image(), *image, "{fault:?}");
        again.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn openings_that_got_as_far_as_claiming_the_database_are_not_taken_for_others() {
    for fault in [Fault::Refused, Fault::DoneAndRefused] {
        let ground = Ground::new();
        let controller = ground.open().await;
        let handle = controller.handle();
        assert_eq!(first_id(handle.submit(allocate()).await), 1);
        // The write, and then what each of two openings writes.
        ground.store.next_log_puts(3, fault);
        assert_eq!(first_id(handle.submit(allocate()).await), 11, "{fault:?}");
        assert_eq!(first_id(handle.submit(allocate()).await), 21, "{fault:?}");
        controller.close().await;
        let again = ground.open().await;
        assert_eq!(again.handle().image().revision, 3, "{fault:?}");
        again.close().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_unclear_write_after_a_takeover_stops_us() {
    let ground = Ground::new();
    let first = ground.open().await;
    assert_eq!(first_id(first.handle().submit(allocate()).await), 1);
    let second = ground.open().await;
    assert_eq!(first_id(second.handle().submit(allocate()).await), 11);
    ground.store.next_log_puts(1, Fault::Refused);
    assert_eq!(first.handle().submit(allocate()).await, Err(SubmitError::Fenced));
    assert_eq!(first_id(second.handle().submit(allocate()).await), 21, "it was not fenced in turn");
    first.close().await;
    second.close().await;
}

#[tokio::test(start_paused = true)]
async fn when_the_store_hangs_commands_wait_and_then_those_who_submit_do() {
    let mut ground = Ground::new();
    ground.options.queue_max = 4;
    let controller = ground.open().await;
    let handle = controller.handle();
    assert_eq!(first_id(handle.submit(allocate()).await), 1);
    ground.store.let_puts_pass(false);
    let mut first = Box::pin(handle.submit(allocate()));
    assert!(first.as_mut().now_or_never().is_none());
    tokio::time::sleep(Duration::from_secs(1)).await; // Paused time: until everything else waits.
    let mut queued: Vec<_> = (0..6).map(|_| Box::pin(handle.submit(allocate()))).collect();
    for submitted in &mut queued {
        assert!(submitted.as_mut().now_or_never().is_none());
    }
    assert_eq!(controller.local.shared.work.capacity(), 0, "four wait in the queue, two for a place in it");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    ground.store.let_puts_pass(true);
    assert_eq!(first_id(first.await), 11);
    let ids: Vec<i64> = futures::future::join_all(queued).await.into_iter().map(first_id).collect();
    assert_eq!(ids, [21, 31, 41, 51, 61, 71]);
    controller.close().await;
}

#[tokio::test(start_paused = true)]
async fn rows_of_a_newer_version_are_not_opened() {
    let ground = Ground::new();
    ground.open().await.close().await;
    let db = Database::open(&ground.options, None).await.unwrap();
    let newer = proto::metadata::Commit { revision: 1, id: vec![1; 16].into(), layout: rows::LAYOUT + 1 };
    db.db.put(rows::commit_key(), prost::Message::encode_to_vec(&newer)).await.unwrap();
    db.close().await;
    let Err(OpenError::Corrupt(why)) = Controller::open(ground.options.clone()).await else { panic!("it opened") };
    assert!(why.contains("newer"), "{why}");
}
