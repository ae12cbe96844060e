use futures::TryStreamExt;

use super::*;
use crate::faulty::{Counting, Fault, Faulty};

async fn probe(store: Arc<dyn ObjectStore>) -> Result<Report, PreflightError> {
    let random: Arc<dyn Random> = Arc::new(Counting::default());
    let report = run(&Store::new(Arc::clone(&store), "s3://bucket"), &random).await;
    if !matches!(report, Ok(Report { leftover: 1.., .. })) {
        let left: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert!(left.is_empty(), "{left:?}");
    }
    report
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn good_stores_pass_also_when_their_answers_are_unclear() {
    for fault in [Fault::None, Fault::LosesAnswers, Fault::TellsWinnersTheyLost, Fault::ConflictsWithoutWinner] {
        let report = probe(Faulty::new(fault)).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(report, Report { rounds: ROUNDS, writers: WRITERS, leftover: 0 });
    }
    let folder = tempfile::tempdir().unwrap();
    probe(Arc::new(crate::local::LocalStore::open(folder.path(), false).unwrap())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_that_lets_several_win_is_refused() {
    for (fault, expected) in [
        (Fault::ChecksThenWrites, Capability::Create),
        (Fault::IgnoresConditions, Capability::Create),
        (Fault::IgnoresReplaceConditions, Capability::Replace),
    ] {
        let error = probe(Faulty::new(fault)).await.expect_err("it is not safe");
        let PreflightError::ManyWinners { capability, winners, .. } = &error else { panic!("{fault:?}: {error}") };
        assert_eq!(*capability, expected, "{fault:?}");
        assert_eq!(*winners, WRITERS, "{fault:?}");
        assert!(!error.is_retriable());
        let sentence = error.to_string();
        assert!(sentence.contains("s3://bucket") && sentence.contains("Use a store that"), "{sentence}");
    }
}

#[tokio::test(start_paused = true)]
async fn other_failures_say_what_to_do() {
    let no_replace = probe(Faulty::new(Fault::NoReplace)).await.unwrap_err();
    assert!(matches!(no_replace, PreflightError::Unsupported { capability: Capability::Replace, .. }), "{no_replace}");
    let no_tags = probe(Faulty::new(Fault::NoTags)).await.unwrap_err();
    assert!(no_tags.to_string().contains("entity tag"), "{no_tags}");
    let denied = probe(Faulty::new(Fault::Denies)).await.unwrap_err();
    assert!(denied.to_string().contains("Check the credentials"), "{denied}");
    let down = probe(Faulty::new(Fault::Down)).await.unwrap_err();
    assert!(down.is_retriable() && down.to_string().contains("Check its endpoint"), "{down}");
    let keeps = probe(Faulty::new(Fault::KeepsAll)).await.unwrap();
    assert_eq!(keeps.leftover, ROUNDS);
}
