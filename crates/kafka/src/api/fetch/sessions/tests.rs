//! Sessions as a client and the broker see them, without records: each answer is made up.

use proptest::prelude::*;
use wire::fetch::ForgottenTopic;

use super::*;

/// Random numbers that do not repeat.
struct Counting(std::sync::atomic::AtomicU64);

impl Random for Counting {
    fn next(&self) -> u128 {
        // Zero first, which is no id.
        u128::from(self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
    }
}

fn sessions(sessions_max: usize, partitions_max: usize) -> Sessions {
    let limits = SessionLimits { sessions_max, partitions_max };
    Sessions::new(limits, Arc::new(Counting(0.into())), ApiMetrics::default())
}

fn someone() -> Arc<str> {
    "User:someone".into()
}

fn partition(partition: i32, fetch_offset: i64) -> FetchPartition {
    FetchPartition { partition, fetch_offset, ..FetchPartition::default() }
}

fn topic(name: &str, partitions: &[(i32, i64)]) -> FetchTopic {
    let partitions = partitions.iter().map(|(index, offset)| partition(*index, *offset)).collect();
    FetchTopic { topic: name.into(), partitions, ..FetchTopic::default() }
}

fn request(session_id: i32, session_epoch: i32, topics: Vec<FetchTopic>) -> Request {
    Request { session_id, session_epoch, topics, ..Request::default() }
}

/// What a broker would find that has this high watermark everywhere, and nothing to give.
fn found(body: &Request, high_watermark: i64) -> Vec<(Text, Uuid, FetchPartition, PartitionData)> {
    let data = PartitionData { high_watermark, log_start_offset: 0, ..PartitionData::default() };
    let each = |topic: &FetchTopic| {
        let (name, id) = (topic.topic.clone(), topic.topic_id);
        let data = data.clone();
        let one = move |asked: &FetchPartition| {
            let data = PartitionData { partition_index: asked.partition, ..data.clone() };
            (name.clone(), id, asked.clone(), data)
        };
        topic.partitions.iter().map(one).collect::<Vec<_>>()
    };
    body.topics.iter().flat_map(each).collect()
}

fn answered(found: &[(Text, Uuid, FetchPartition, PartitionData)]) -> impl ExactSizeIterator<Item = Answered<'_>> {
    found.iter().map(|(topic, topic_id, asked, data)| Answered { topic, topic_id: *topic_id, asked, data })
}

/// A full request that wants a session, and its answer's session id.
fn open(sessions: &Sessions, version: i16, topics: Vec<FetchTopic>) -> i32 {
    let mut body = request(0, 0, topics);
    assert_eq!(sessions.begin(&someone(), version, &mut body).unwrap(), Kind::Full { wants_session: true });
    sessions.create(&someone(), version, answered(&found(&body, 5)))
}

fn counted(sessions: &Sessions) -> (usize, usize) {
    let kept = sessions.kept.lock();
    assert_eq!(kept.by_id.len(), kept.by_use.len());
    let sum: usize = kept.by_id.values().map(|session| session.topics.values().map(BTreeMap::len).sum::<usize>()).sum();
    assert_eq!(sum, kept.partitions, "the count is what is there");
    (kept.by_id.len(), kept.partitions)
}

/// An incremental request: what it is made to ask, and which of it has news.
fn go_on(
    sessions: &Sessions,
    mut body: Request,
    high_watermark: i64,
) -> Result<Vec<(String, i32, i64, bool)>, ErrorCode> {
    let Kind::Incremental { id, next_epoch } = sessions.begin(&someone(), 12, &mut body)? else {
        panic!("not incremental")
    };
    assert_eq!(id, body.session_id);
    let found = found(&body, high_watermark);
    let news = sessions.news(id, next_epoch, answered(&found))?;
    let line = |((topic, _, asked, _), news): (&(Text, Uuid, FetchPartition, PartitionData), &bool)| {
        (topic.to_string(), asked.partition, asked.fetch_offset, *news)
    };
    Ok(found.iter().zip(&news).map(line).collect())
}

#[tokio::test]
async fn an_incremental_request_asks_for_the_whole_and_is_told_of_news() {
    let sessions = sessions(10, 100);
    let id = open(&sessions, 12, vec![topic("a", &[(0, 1), (1, 1)]), topic("b", &[(0, 1)])]);
    assert!(id > 0);
    let all = |news| vec![("a".into(), 0, 1, news), ("a".into(), 1, 1, news), ("b".into(), 0, 1, news)];
    assert_eq!(go_on(&sessions, request(id, 1, vec![]), 5).unwrap(), all(false), "nothing happened");
    assert_eq!(go_on(&sessions, request(id, 2, vec![]), 6).unwrap(), all(true), "the high watermark moved");
    assert_eq!(go_on(&sessions, request(id, 3, vec![]), 6).unwrap(), all(false));
    let changed = go_on(&sessions, request(id, 4, vec![topic("a", &[(1, 7)]), topic("c", &[(3, 9)])]), 6).unwrap();
    assert_eq!(changed[1], ("a".into(), 1, 7, false), "asked from another offset");
    assert_eq!(changed[3], ("c".into(), 3, 9, true), "a new partition is news");
    let mut body = request(id, 5, vec![]);
    body.forgotten_topics_data =
        vec![ForgottenTopic { topic: "a".into(), partitions: vec![0, 77], ..ForgottenTopic::default() }];
    let left = go_on(&sessions, body, 6).unwrap();
    assert_eq!(
        left.iter().map(|(topic, index, ..)| (topic.as_str(), *index)).collect::<Vec<_>>(),
        [("a", 1), ("b", 0), ("c", 3)]
    );
    assert_eq!(counted(&sessions), (1, 3));
}

#[tokio::test]
async fn records_an_error_its_end_and_a_moved_log_start_are_news() {
    let quiet = PartitionData { high_watermark: 5, log_start_offset: 1, ..PartitionData::default() };
    let told = Told::of(&quiet);
    assert!(!told.is_outdated_by(&quiet));
    assert!(!told.is_outdated_by(&PartitionData { records: Some(wire::Records::default()), ..quiet.clone() }));
    let records = wire::Records::from(bytes::Bytes::from_static(b"x"));
    assert!(told.is_outdated_by(&PartitionData { records: Some(records), ..quiet.clone() }));
    assert!(told.is_outdated_by(&PartitionData { log_start_offset: 2, ..quiet.clone() }));
    let error = PartitionData { error_code: 6, ..quiet.clone() };
    assert!(told.is_outdated_by(&error));
    assert!(Told::of(&error).is_outdated_by(&error), "an error is told each time");
    assert!(Told::of(&error).is_outdated_by(&quiet), "its end too");
}

#[tokio::test]
async fn a_session_that_is_not_as_the_request_says_is_refused() {
    let sessions = sessions(10, 100);
    let id = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
    let refused = |principal: &str, version, session_id, epoch| {
        sessions.begin(&principal.into(), version, &mut request(session_id, epoch, vec![])).unwrap_err()
    };
    assert_eq!(refused("User:someone", 12, id + 1, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(refused("User:another", 12, id, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(refused("User:someone", 12, 0, 1), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(refused("User:someone", 12, id, 2), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(refused("User:someone", 12, id, -7), ErrorCode::INVALID_FETCH_SESSION_EPOCH);
    assert_eq!(refused("User:someone", 13, id, 1), ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
    // None of these hurt it.
    go_on(&sessions, request(id, 1, vec![]), 5).unwrap();
    // The answer of a request that another one overtook is refused.
    let mut body = request(id, 2, vec![]);
    let Ok(Kind::Incremental { next_epoch, .. }) = sessions.begin(&someone(), 12, &mut body) else { panic!() };
    go_on(&sessions, request(id, 3, vec![]), 5).unwrap();
    let late = sessions.news(id, next_epoch, answered(&found(&body, 5))).unwrap_err();
    assert_eq!(late, ErrorCode::INVALID_FETCH_SESSION_EPOCH);
}

#[tokio::test]
async fn full_requests_close_the_session_that_they_name_if_it_is_theirs() {
    let sessions = sessions(10, 100);
    for (epoch, wants_session) in [(0, true), (-1, false)] {
        let id = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
        let mut body = request(id, epoch, vec![]);
        sessions.begin(&"User:another".into(), 12, &mut body).unwrap();
        assert_eq!(counted(&sessions), (1, 1), "another's session stays");
        assert_eq!(sessions.begin(&someone(), 12, &mut body).unwrap(), Kind::Full { wants_session });
        assert_eq!(counted(&sessions), (0, 0));
    }
}

#[tokio::test]
async fn topics_by_id_are_another_session_and_unknown_fields_are_not_kept() {
    let sessions = sessions(10, 100);
    let by_id = FetchTopic { topic_id: Uuid::from_u128(7), partitions: vec![partition(0, 0)], ..FetchTopic::default() };
    let id = open(&sessions, 13, vec![by_id]);
    let mut body = request(id, 1, vec![]);
    assert!(matches!(sessions.begin(&someone(), 17, &mut body), Ok(Kind::Incremental { .. })));
    assert_eq!(body.topics[0].topic_id, Uuid::from_u128(7));
    let error = sessions.begin(&someone(), 12, &mut request(id, 2, vec![])).unwrap_err();
    assert_eq!(error, ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR);
}

#[tokio::test]
async fn a_session_without_partitions_is_closed_and_none_is_made() {
    let sessions = sessions(10, 100);
    assert_eq!(open(&sessions, 12, vec![]), 0);
    let id = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
    let mut body = request(id, 1, vec![topic("empty", &[])]);
    body.forgotten_topics_data =
        vec![ForgottenTopic { topic: "a".into(), partitions: vec![0], ..ForgottenTopic::default() }];
    assert_eq!(sessions.begin(&someone(), 12, &mut body).unwrap(), Kind::Full { wants_session: false });
    assert_eq!(counted(&sessions), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_bounds_hold_and_only_what_is_long_unused_makes_room() {
    let sessions = sessions(2, 5);
    let first = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
    let second = open(&sessions, 12, vec![topic("a", &[(0, 0), (1, 0)])]);
    assert_eq!(open(&sessions, 12, vec![topic("a", &[(0, 0)])]), 0, "both are in use");
    tokio::time::advance(UNUSED_AFTER).await;
    go_on(&sessions, request(first, 1, vec![]), 5).unwrap();
    tokio::time::advance(Duration::from_secs(1)).await;
    let third = open(&sessions, 12, vec![topic("b", &[(0, 0), (1, 0), (2, 0), (3, 0)])]);
    assert!(third > 0, "the second made room: it was unused for longest");
    assert_eq!(go_on(&sessions, request(second, 1, vec![]), 5).unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(counted(&sessions), (2, 5));
    // No room for one more partition: the session ends, and the client begins anew.
    let more = request(first, 2, vec![topic("a", &[(1, 0)])]);
    assert_eq!(go_on(&sessions, more, 5).unwrap_err(), ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
    assert_eq!(counted(&sessions), (1, 4));
    let long = "x".repeat(TOPIC_NAME_BYTES_MAX + 1);
    assert_eq!(open(&sessions, 12, vec![topic(&long, &[(0, 0)])]), 0, "no topic has such a name");
    assert_eq!(open(&sessions, 12, vec![topic("a", &[(0, 0); 6])]), 0, "more than all may have");
    assert_eq!(counted(&sessions), (1, 4));
}

#[test]
fn epochs_wrap_to_one() {
    assert_eq!((after(0), after(7), after(i32::MAX)), (1, 8, 1));
}

proptest! {
    /// Whatever clients send, a session holds what a plain map would, and the bounds hold.
    #[test]
    fn a_session_is_the_sum_of_its_requests(
        steps in proptest::collection::vec((0_usize..3, 0_i32..4, 0_i64..9, any::<bool>()), 1..40),
    ) {
        let names = ["a", "b", "c"];
        let sessions = sessions(2, 6);
        let mut model: BTreeMap<(String, i32), i64> = BTreeMap::from([(("a".to_owned(), 0), 0)]);
        let mut id = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
        let mut epoch = 1;
        for (name, index, offset, forget) in steps {
            let name = names[name];
            let mut body = request(id, epoch, vec![]);
            if forget {
                body.forgotten_topics_data =
                    vec![ForgottenTopic { topic: name.into(), partitions: vec![index], ..ForgottenTopic::default() }];
                model.remove(&(name.to_owned(), index));
            } else {
                body.topics = vec![topic(name, &[(index, offset)])];
                model.insert((name.to_owned(), index), offset);
            }
            let mut expected = model.clone();
            match sessions.begin(&someone(), 12, &mut body) {
                Ok(Kind::Incremental { .. }) => {
                    let asked = found(&body, 0).into_iter();
                    let asked: BTreeMap<_, _> =
                        asked.map(|(topic, _, asked, _)| ((topic.to_string(), asked.partition), asked.fetch_offset)).collect();
                    prop_assert_eq!(&asked, &expected);
                    epoch += 1;
                }
                outcome => {
                    let full = model.len() > 6;
                    prop_assert!(full || model.is_empty(), "{:?}", outcome);
                    expected = BTreeMap::from([(("a".to_owned(), 0), 0)]);
                    id = open(&sessions, 12, vec![topic("a", &[(0, 0)])]);
                    epoch = 1;
                }
            }
            model = expected;
            let (count, partitions) = counted(&sessions);
            prop_assert!(count <= 2 && partitions <= 6);
        }
    }
}
