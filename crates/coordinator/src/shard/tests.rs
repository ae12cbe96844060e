use bytes::Bytes;

use super::queue::Queue;
use crate::group::{Store, Ticket};
use crate::storage::Entry;

fn store(ticket: u64, sizes: &[usize]) -> Store {
    // An entry of these many bytes, by its own account.
    let entries =
        sizes.iter().map(|size| Entry { key: Bytes::new(), value: Some(vec![0; size - 12].into()) }).collect();
    Store { group: "g".into(), ticket: Ticket(ticket), entries }
}

/// An append: bytes, the tickets that end in it and whether they began earlier, cut, too large.
type Append = (usize, Vec<(u64, bool)>, bool, bool);

fn drain(queue: &mut Queue, bytes_max: usize) -> Vec<Append> {
    let mut batches = Vec::new();
    while let Some((batch, entries)) = queue.next(bytes_max) {
        if !batch.too_large {
            assert_eq!(batch.bytes, entries.iter().map(Entry::size).sum::<usize>());
            assert_eq!(batch.count, entries.len());
            assert!(batch.bytes <= bytes_max && batch.count > 0);
        }
        let ends = batch.ends.iter().map(|end| (end.ticket.0, end.continued)).collect();
        batches.push((batch.bytes, ends, batch.cut, batch.too_large));
        queue.settled(&batch);
    }
    assert!(queue.is_idle());
    assert_eq!(queue.bytes(), 0, "everything that was pushed is accounted for");
    batches
}

#[test]
fn changes_share_an_append() {
    let mut queue = Queue::default();
    for ticket in 0..3 {
        queue.push(store(ticket, &[20, 20]), false);
    }
    assert_eq!(queue.bytes(), 120);
    assert_eq!(drain(&mut queue, 120), [(120, vec![(0, false), (1, false), (2, false)], false, false)]);
}

#[test]
fn a_change_larger_than_an_append_is_cut() {
    let mut queue = Queue::default();
    queue.push(store(0, &[20]), false);
    queue.push(store(1, &[20; 5]), false);
    queue.push(store(2, &[20]), false);
    assert_eq!(
        drain(&mut queue, 50),
        [
            (40, vec![(0, false)], true, false),
            (40, vec![], true, false),
            (40, vec![(1, true)], false, false),
            (20, vec![(2, false)], false, false),
        ]
    );
}

#[test]
fn a_change_that_finds_no_room_has_not_begun() {
    let mut queue = Queue::default();
    queue.push(store(0, &[40]), false);
    queue.push(store(1, &[20]), false);
    assert_eq!(
        drain(&mut queue, 50),
        [(40, vec![(0, false)], false, false), (20, vec![(1, false)], false, false)],
        "so its failure leaves nothing half done"
    );
}

#[test]
fn a_record_larger_than_an_append_is_refused_in_its_turn() {
    let mut queue = Queue::default();
    queue.push(store(0, &[20]), false);
    queue.push(store(1, &[20, 60]), false);
    queue.push(store(2, &[20]), false);
    assert_eq!(
        drain(&mut queue, 50),
        [
            (20, vec![(0, false)], false, false),
            (80, vec![(1, false)], false, true),
            (20, vec![(2, false)], false, false),
        ]
    );
}
