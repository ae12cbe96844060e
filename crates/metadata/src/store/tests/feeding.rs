//! Followers: their image is the controller's, at every revision, however far behind they fall.

use proto::controller::Followed;
use tokio::time::timeout;

use super::super::feed::{FollowError, Follower, Following};
use super::*;
use crate::machine::Limits;

const SOON: Duration = Duration::from_secs(20);

/// What one follower knows after all that it is told now.
async fn catch_up(following: &mut Following, follower: &mut Follower, revision: u64) -> (Arc<Image>, usize) {
    let mut beginnings = 0;
    loop {
        let message = timeout(SOON, following.next()).await.expect("there is more").expect("the controller lives");
        beginnings += usize::from(message.beginning.is_some());
        if let Some(image) = follower.take(message).unwrap()
            && image.revision == revision
        {
            return (image, beginnings);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_follower_has_the_controllers_image() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let (mut early, mut follower) = (controller.feed().follow(), Follower::new(Limits::default()));
    catch_up(&mut early, &mut follower, 0).await;
    history(&handle).await;
    let now = handle.image();
    let (image, beginnings) = catch_up(&mut early, &mut follower, now.revision).await;
    assert_eq!((&*image, beginnings), (&*now, 0), "change by change");
    let (image, beginnings) =
        catch_up(&mut controller.feed().follow(), &mut Follower::new(Limits::default()), now.revision).await;
    assert_eq!((&*image, beginnings), (&*now, 1), "all at once");
    assert!(timeout(SOON, early.next()).await.is_err(), "nothing more is to be told");
    submit(&handle, Command::AllocateProducerIds { count: 10 }).await;
    assert_eq!(*catch_up(&mut early, &mut follower, now.revision + 1).await.0, *handle.image());
    controller.close().await;
    assert!(early.next().await.is_none(), "the controller ended");
}

#[tokio::test(start_paused = true)]
async fn who_falls_behind_begins_anew() {
    let ground = Ground::new();
    let controller = ground.open().await;
    let handle = controller.handle();
    let (mut late, mut follower) = (controller.feed().follow(), Follower::new(Limits::default()));
    catch_up(&mut late, &mut follower, 0).await;
    start(&handle).await;
    // Each makes 20,000 rows and deletes them, about 2 MiB; some 8 MiB are kept.
    for topic in 1..=6 {
        submit(&handle, create(&format!("t{topic}"), topic, 20_000)).await;
        submit(&handle, Command::DeleteTopic { id: TopicId(Uuid::from_u128(topic)), at: AT }).await;
    }
    submit(&handle, create("last", 9, 20_000)).await;
    let now = handle.image();
    let (image, beginnings) = catch_up(&mut late, &mut follower, now.revision).await;
    assert_eq!(*image, *now);
    assert_eq!(beginnings, 1, "the oldest changes are not kept any more");
    controller.close().await;
}

#[test]
fn what_cannot_be_understood_is_refused() {
    let mut follower = Follower::new(Limits::default());
    let row = proto::controller::Row { key: b"b\0\0\0\x01".as_slice().into(), value: None };
    let rows = Followed { rows: vec![row.clone()], ..Followed::default() };
    assert!(follower.take(rows.clone()).is_err(), "no beginning");
    let newer = proto::controller::Beginning { cluster_id: vec![7; 16].into(), layout: u32::MAX };
    let newer = Followed { beginning: Some(newer), ..Followed::default() };
    assert!(matches!(follower.take(newer).unwrap_err(), FollowError::Layout(u32::MAX)));
    let beginning = proto::controller::Beginning { cluster_id: vec![7; 16].into(), layout: 1 };
    let beginning = Followed { beginning: Some(beginning), revision: Some(3), ..Followed::default() };
    assert_eq!(follower.take(beginning).unwrap().unwrap().revision, 3);
    assert!(follower.take(Followed::default()).unwrap().is_none(), "a sign of life");
    assert!(matches!(follower.take(rows).unwrap_err(), FollowError::Corrupt(_)), "brokers are never forgotten");
}
