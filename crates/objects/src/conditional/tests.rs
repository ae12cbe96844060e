use std::sync::Arc;

use object_store::memory::InMemory;
use tokio::task::JoinSet;

use super::*;
use crate::faulty::{Fault, Faulty};

fn key() -> Path {
    Path::from("c/meta/leader")
}

async fn current(store: &dyn ObjectStore) -> Bytes {
    read(store, &key()).await.unwrap().unwrap().value
}

/// Creates, replaces, and tries to replace the version that was replaced.
async fn create_and_replace(store: &dyn ObjectStore) {
    let Outcome::Won(first) = create(store, &key(), "a".into()).await.unwrap() else { panic!("nobody else writes") };
    assert_eq!(current(store).await, "a");
    let Outcome::Lost(seen) = create(store, &key(), "b".into()).await.unwrap() else { panic!("something is there") };
    assert_eq!(seen.value, "a");
    let Outcome::Won(second) = replace(store, &key(), "c".into(), &first).await.unwrap() else { panic!("nobody else") };
    assert_eq!(current(store).await, "c");
    let Outcome::Lost(seen) = replace(store, &key(), "d".into(), &first).await.unwrap() else { panic!("it is old") };
    assert_eq!(seen.value, "c");
    assert!(matches!(replace(store, &key(), "e".into(), &seen.version).await.unwrap(), Outcome::Won(_)));
    let Outcome::Lost(seen) = replace(store, &key(), "f".into(), &second).await.unwrap() else { panic!("it is old") };
    assert_eq!(seen.value, "e");
}

#[tokio::test(start_paused = true)]
async fn what_stands_decides_whatever_the_store_answers() {
    for fault in [Fault::None, Fault::LosesAnswers, Fault::TellsWinnersTheyLost, Fault::ConflictsWithoutWinner] {
        println!("{fault:?}");
        create_and_replace(&*Faulty::new(fault)).await;
    }
}

#[tokio::test]
async fn a_directory_does_it_too() {
    let folder = tempfile::tempdir().unwrap();
    create_and_replace(&crate::local::LocalStore::open(folder.path(), false).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_writer_wins_when_all_answers_are_lost() {
    for fault in [Fault::None, Fault::LosesAnswers, Fault::TellsWinnersTheyLost] {
        let store = Faulty::new(fault);
        let mut expected = None;
        for round in 0..20 {
            let mut writers = JoinSet::new();
            for writer in 0..8 {
                let (store, expected) = (Arc::clone(&store), expected.clone());
                let value = Bytes::from(format!("{round} {writer}"));
                writers.spawn(async move {
                    let done = match &expected {
                        None => create(&*store, &key(), value.clone()).await,
                        Some(expected) => replace(&*store, &key(), value.clone(), expected).await,
                    };
                    (value, done.unwrap())
                });
            }
            let mut winners = Vec::new();
            for (value, outcome) in writers.join_all().await {
                match outcome {
                    Outcome::Won(version) => winners.push((value, version)),
                    Outcome::Lost(seen) => assert_ne!(seen.value, value),
                }
            }
            assert_eq!(winners.len(), 1, "{fault:?}: {winners:?}");
            assert_eq!(current(&*store).await, winners[0].0);
            expected = Some(winners.remove(0).1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decided_is_an_error_that_says_so() {
    let down = create(&*Faulty::new(Fault::Down), &key(), "a".into()).await.unwrap_err();
    assert!(matches!(down, ConditionalError::Unclear { .. }), "{down}");
    let denied = create(&*Faulty::new(Fault::Denies), &key(), "a".into()).await.unwrap_err();
    assert!(matches!(denied, ConditionalError::Refused { .. }), "{denied}");
    let blind = create(&*Faulty::new(Fault::NoTags), &key(), "a".into()).await.unwrap_err();
    assert!(matches!(blind, ConditionalError::NoVersion { .. }), "{blind}");

    let store = Faulty::new(Fault::NoReplace);
    let Outcome::Won(version) = create(&*store, &key(), "a".into()).await.unwrap() else { panic!("nobody else") };
    let cannot = replace(&*store, &key(), "b".into(), &version).await.unwrap_err();
    assert!(matches!(cannot, ConditionalError::Unsupported(_)), "{cannot}");

    let store = InMemory::new();
    let Outcome::Won(version) = create(&store, &key(), "a".into()).await.unwrap() else { panic!("nobody else") };
    store.delete(&key()).await.unwrap();
    let gone = replace(&store, &key(), "b".into(), &version).await.unwrap_err();
    assert!(matches!(gone, ConditionalError::Gone { .. }), "{gone}");
    assert!(read(&store, &key()).await.unwrap().is_none());
}
