//! Whom the controller hears from: each broker that follows it has a session, which ends when nothing is heard of it any
//! more. Time comes in as a parameter.

use std::collections::HashMap;
use std::time::Duration;

use metadata::Image;
use parking_lot::Mutex;
use records::{BrokerId, Incarnation};
use tokio::time::Instant;

/// The sessions of one controller.
#[derive(Debug)]
pub(crate) struct Sessions {
    begun: Instant,
    timeout: Duration,
    /// A connection that broke is made again within this time, or the broker is gone.
    broken_timeout: Duration,
    /// The controller before, which nobody heard any more.
    lost: Option<BrokerId>,
    heard: Mutex<HashMap<BrokerId, Heard>>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    incarnation: Incarnation,
    at: Instant,
    /// Its connection broke after that.
    broke_at: Option<Instant>,
}

/// What the metadata should say of a broker, and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) broker: BrokerId,
    pub(crate) incarnation: Incarnation,
    pub(crate) fenced: bool,
}

impl Sessions {
    /// Of a controller that begins now: it takes `timeout` until anybody is given up, but for the one that is lost.
    pub(crate) fn new(now: Instant, timeout: Duration, broken_timeout: Duration, lost: Option<BrokerId>) -> Self {
        Self { begun: now, timeout, broken_timeout, lost, heard: Mutex::default() }
    }

    /// A broker gave a sign of life.
    pub(crate) fn heard(&self, broker: BrokerId, incarnation: Incarnation, now: Instant) {
        self.heard.lock().insert(broker, Heard { incarnation, at: now, broke_at: None });
    }

    /// A broker's connection broke.
    pub(crate) fn broke(&self, broker: BrokerId, now: Instant) {
        if let Some(heard) = self.heard.lock().get_mut(&broker) {
            heard.broke_at = Some(now);
        }
    }

    /// Which brokers are heard from and fenced, or the other way round.
    pub(crate) fn verdicts(&self, image: &Image, own: Option<BrokerId>, now: Instant) -> Vec<Verdict> {
        let heard = self.heard.lock();
        let of = |broker: &metadata::Broker| {
            let lives = Some(broker.id) == own || self.lives(broker, heard.get(&broker.id), now);
            let verdict = Verdict { broker: broker.id, incarnation: broker.incarnation, fenced: !lives };
            (broker.fenced == lives).then_some(verdict)
        };
        image.brokers.values().filter_map(|broker| of(broker)).collect()
    }

    fn lives(&self, broker: &metadata::Broker, heard: Option<&Heard>, now: Instant) -> bool {
        let since = |at: Instant| now.saturating_duration_since(at);
        match heard.filter(|heard| heard.incarnation == broker.incarnation) {
            Some(heard) => {
                since(heard.at) < self.timeout && heard.broke_at.is_none_or(|at| since(at) < self.broken_timeout)
            }
            None if Some(broker.id) == self.lost => since(self.begun) < self.broken_timeout,
            // It may not have found its new controller yet.
            None => since(self.begun) < self.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use metadata::Broker;
    use records::Timestamp;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(2);
    const BROKEN: Duration = Duration::from_millis(500);

    fn image(fenced: bool) -> Image {
        let mut image = Image::new(uuid::Uuid::nil(), metadata::Limits::default());
        let broker = Broker {
            id: BrokerId(1),
            name: "a".into(),
            zone: String::new(),
            endpoints: Vec::new(),
            incarnation: Incarnation(3),
            registered_at: Timestamp(0),
            fenced,
        };
        image.brokers.insert(BrokerId(1), Arc::new(broker));
        image
    }

    /// Whether the broker is to be fenced or set free, so many milliseconds after the beginning.
    fn verdict(sessions: &Sessions, fenced: bool, after_ms: u64) -> Option<bool> {
        let now = sessions.begun + Duration::from_millis(after_ms);
        sessions.verdicts(&image(fenced), None, now).pop().map(|verdict| verdict.fenced)
    }

    #[test]
    fn a_broker_that_is_not_heard_of_is_fenced_in_time_and_set_free_when_it_is_back() {
        let sessions = Sessions::new(Instant::now(), TIMEOUT, BROKEN, None);
        let at = |ms| sessions.begun + Duration::from_millis(ms);
        assert_eq!(verdict(&sessions, false, 1_999), None, "it may still come");
        assert_eq!(verdict(&sessions, false, 2_000), Some(true));
        sessions.heard(BrokerId(1), Incarnation(2), at(2_500));
        assert_eq!(verdict(&sessions, true, 2_600), None, "an older incarnation is another broker");
        sessions.heard(BrokerId(1), Incarnation(3), at(2_500));
        assert_eq!(verdict(&sessions, true, 2_600), Some(false));
        assert_eq!(verdict(&sessions, false, 4_499), None);
        assert_eq!(verdict(&sessions, false, 4_500), Some(true), "it fell silent");
    }

    #[test]
    fn a_connection_that_breaks_has_some_time_to_be_made_again() {
        let sessions = Sessions::new(Instant::now(), TIMEOUT, BROKEN, None);
        let at = |ms| sessions.begun + Duration::from_millis(ms);
        sessions.heard(BrokerId(1), Incarnation(3), at(100));
        sessions.broke(BrokerId(1), at(200));
        assert_eq!(verdict(&sessions, false, 699), None);
        assert_eq!(verdict(&sessions, false, 700), Some(true));
        sessions.heard(BrokerId(1), Incarnation(3), at(690));
        assert_eq!(verdict(&sessions, false, 700), None);
    }

    #[test]
    fn the_controller_before_is_given_up_sooner() {
        let sessions = Sessions::new(Instant::now(), TIMEOUT, BROKEN, Some(BrokerId(1)));
        assert_eq!(verdict(&sessions, false, 499), None);
        assert_eq!(verdict(&sessions, false, 500), Some(true));
    }

    #[test]
    fn the_controller_does_not_fence_itself() {
        let sessions = Sessions::new(Instant::now(), TIMEOUT, BROKEN, None);
        let late = sessions.begun + 2 * TIMEOUT;
        assert!(sessions.verdicts(&image(false), Some(BrokerId(1)), late).is_empty());
        assert_eq!(sessions.verdicts(&image(true), Some(BrokerId(1)), late).len(), 1, "and sets itself free");
    }
}
