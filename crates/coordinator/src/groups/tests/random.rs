//! Random interleavings of everything that can happen to a group, and what must hold through all of them.
//!
//! Members behave as clients do most of the time and badly the rest. Checked after every step: one leader at most, the
//! generation never falls, an assignment is the one that the leader of its generation gave, an acknowledged offset is
//! what a reload gives (and nothing else does, but commits whose outcome nobody was told), every request is answered once.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::bench::*;
use crate::group::{Answer, StoreFailure, Token};
use crate::groups::{Rewrite, RewriteStep};
use crate::{JoinRequest, Joined, State, SyncRequest};

const CLIENTS: usize = 4;

#[derive(Debug, Clone)]
enum Step {
    Join { client: usize, fresh: bool, required: bool, skip: bool },
    Protocols { client: usize, choice: u8 },
    Sync { client: usize, stale: bool },
    Heartbeat { client: usize },
    Leave { client: usize },
    Commit { client: usize, simple: bool, partition: i32 },
    DeleteOffset { partition: i32 },
    DeleteTopic,
    DeleteGroup,
    Pass { ms: u64 },
    Store,
    Fail,
    Rewrite,
    Reload,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        6 => (client.clone(), prop::bool::weighted(0.2), any::<bool>(), any::<bool>())
            .prop_map(|(client, fresh, required, skip)| Step::Join { client, fresh, required, skip }),
        1 => (client.clone(), 0_u8..3).prop_map(|(client, choice)| Step::Protocols { client, choice }),
        6 => (client.clone(), prop::bool::weighted(0.1)).prop_map(|(client, stale)| Step::Sync { client, stale }),
        2 => client.clone().prop_map(|client| Step::Heartbeat { client }),
        1 => client.clone().prop_map(|client| Step::Leave { client }),
        5 => (client, prop::bool::weighted(0.3), 0..3).prop_map(|(client, simple, partition)| Step::Commit { client, simple, partition }),
        1 => (0..3).prop_map(|partition| Step::DeleteOffset { partition }),
        1 => Just(Step::DeleteTopic),
        1 => Just(Step::DeleteGroup),
        4 => prop_oneof![Just(1), Just(2_999), Just(10_000), Just(60_000), Just(3_600_000)].prop_map(|ms| Step::Pass { ms }),
        8 => Just(Step::Store),
        1 => Just(Step::Fail),
        2 => Just(Step::Rewrite),
        1 => Just(Step::Reload),
    ];
    prop::collection::vec(step, 1..150)
}

#[derive(Debug, Clone)]
struct Client {
    request: JoinRequest,
    member_id: Arc<str>,
    generation: i32,
    leads: bool,
    members: Vec<Arc<str>>,
}

/// What a request was, to judge its answer.
#[derive(Debug)]
enum Asked {
    Join { client: usize },
    Sync { generation: i32, member_id: Arc<str> },
    Other,
}

struct Model {
    bench: Bench,
    clients: Vec<Client>,
    asked: BTreeMap<Token, Asked>,
    /// What the leader of a generation sent for each member, ever.
    assigned: BTreeMap<(i32, Arc<str>), Vec<Vec<u8>>>,
    generation: i32,
    next_offset: i64,
    rewrite: Option<Rewrite>,
}

impl Model {
    fn new() -> Self {
        let mut bench = Bench::with(|config| {
            config.offsets_retention = std::time::Duration::from_secs(7_200);
            config.group_size_max = 3;
            config.rewrite_chunk_bytes = 60;
        });
        bench.storing = false;
        let clients = (0..CLIENTS).map(|index| Client {
            // Two of them are static, and share their instance id.
            request: if index < 2 { fixed("one") } else { member(&format!("c{index}")) },
            member_id: "".into(),
            generation: -1,
            leads: false,
            members: Vec::new(),
        });
        let clients = clients.collect();
        Self {
            bench,
            clients,
            asked: BTreeMap::new(),
            assigned: BTreeMap::new(),
            generation: 0,
            next_offset: 0,
            rewrite: None,
        }
    }

    fn ask(&mut self, token: Token, asked: Asked) {
        self.asked.insert(token, asked);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Join { client, fresh, required, skip } => {
                let it = &mut self.clients[client];
                if fresh {
                    it.member_id = "".into();
                }
                let request = JoinRequest { member_id_required: required, skip_assignment: skip, ..it.request.clone() };
                let token = self.bench.join("g", again(&it.member_id, request));
                self.ask(token, Asked::Join { client });
            }
            Step::Protocols { client, choice } => {
                let names: &[&str] = [&["range", "sticky"][..], &["sticky", "range"], &["range"]][usize::from(choice)];
                let metadata = subscription(&[["t"], ["u"], ["v"]][usize::from(choice)]);
                self.clients[client].request.protocols =
                    names.iter().map(|name| ((*name).into(), metadata.clone())).collect();
            }
            Step::Sync { client, stale } => {
                let it = self.clients[client].clone();
                let generation = if stale { it.generation - 1 } else { it.generation };
                let mut assignments = Vec::new();
                for id in &it.members {
                    let bytes = format!("{generation} {id} {}", self.bench.tokens()).into_bytes();
                    if it.leads && !stale {
                        self.assigned.entry((generation, id.clone())).or_default().push(bytes.clone());
                    }
                    assignments.push((id.clone(), bytes.into()));
                }
                let token = self.bench.sync("g", &SyncRequest { assignments, ..follower(&it.member_id, generation) });
                self.ask(token, Asked::Sync { generation, member_id: it.member_id });
            }
            Step::Heartbeat { client } => {
                let it = self.clients[client].clone();
                self.bench.heartbeat("g", &it.member_id, it.generation).ok();
            }
            Step::Leave { client } => {
                let id = self.clients[client].member_id.clone();
                self.bench.run(|groups, now, out| groups.leave(now, out, "g", &[leaving(&id)])).ok();
            }
            Step::Commit { client, simple, partition } => {
                let it = &self.clients[client];
                let (id, generation) = if simple { ("".into(), -1) } else { (it.member_id.clone(), it.generation) };
                self.next_offset += 1;
                let token = self.bench.commit("g", &commit(&id, generation, "t", partition, self.next_offset));
                self.ask(token, Asked::Other);
            }
            Step::DeleteOffset { partition } => {
                let token = self.bench.token();
                let wanted = [crate::TopicPartitions { topic: "t".into(), partitions: vec![partition] }];
                self.bench.run(|groups, now, out| groups.delete_offsets(now, out, token, "g", &wanted));
                self.ask(token, Asked::Other);
            }
            Step::DeleteTopic => {
                let token = self.bench.token();
                let mut given = false;
                self.bench.run(|groups, now, out| {
                    groups.topic_deleted(now, out, "t", || {
                        given = true;
                        token
                    });
                });
                if given {
                    self.ask(token, Asked::Other);
                }
            }
            Step::DeleteGroup => {
                let token = self.bench.token();
                self.bench.run(|groups, now, out| groups.delete(now, out, token, "g"));
                self.ask(token, Asked::Other);
            }
            Step::Pass { ms } => self.bench.pass(ms),
            Step::Store => {
                self.bench.store_next();
            }
            Step::Fail => {
                if !self.bench.stores.is_empty() {
                    self.bench.fail_next(StoreFailure::Unavailable);
                }
            }
            Step::Rewrite => self.rewrite(),
            Step::Reload => {
                self.settle();
                self.judge();
                let mut after = self.bench.reload();
                after.storing = false;
                assert_eq!(after.groups.committed_offsets(), self.bench.groups.committed_offsets());
                assert_eq!(after.groups.live_bytes(), self.bench.groups.live_bytes());
                // Those that wait for members are refused by the shard; here they are forgotten.
                self.asked.clear();
                self.bench = after;
                self.rewrite = None;
                self.generation = 0;
            }
        }
    }

    fn rewrite(&mut self) {
        let mut rewrite = self.rewrite.take().unwrap_or_else(|| self.bench.groups.rewrite(self.bench.end()));
        let step = self.bench.run(|groups, now, out| groups.rewrite_step(now, out, &mut rewrite));
        if step == RewriteStep::Finished {
            self.bench.log.retain(|stored| stored.offset >= rewrite.start);
        } else {
            self.rewrite = Some(rewrite);
        }
    }

    fn settle(&mut self) {
        while self.bench.store_next() {}
    }

    /// Judges the answers that came, and lets clients act on them.
    fn judge(&mut self) {
        let answered: Vec<Token> =
            self.asked.keys().filter(|token| self.bench.answers.contains_key(token)).copied().collect();
        for token in answered {
            let answer = self.bench.answers[&token].clone();
            match (self.asked.remove(&token).unwrap(), answer) {
                (Asked::Join { client }, Answer::Join(Ok(joined))) => self.joined(client, *joined),
                (Asked::Join { client }, Answer::Join(Err(refused))) => {
                    if !refused.member_id.is_empty() {
                        self.clients[client].member_id = refused.member_id;
                    }
                }
                (Asked::Sync { generation, member_id }, Answer::Sync(synced)) => {
                    let given = self.assigned.get(&(generation, Arc::clone(&member_id)));
                    // A static member has what was assigned to the one before it; one that was forgotten has nothing.
                    let right = synced.assignment.is_empty()
                        || given.is_some_and(|given| given.contains(&synced.assignment.to_vec()))
                        || (member_id.starts_with("one")
                            && synced.assignment.starts_with(format!("{generation} one").as_bytes()));
                    assert!(right, "{member_id} of {generation} got {synced:?}");
                }
                (Asked::Join { .. }, other) => panic!("a join is answered as a join: {other:?}"),
                (Asked::Sync { .. } | Asked::Other, _) => {}
            }
        }
    }

    fn joined(&mut self, client: usize, joined: Joined) {
        let leads = joined.leader == joined.member_id;
        assert_eq!(leads && !joined.members.is_empty(), leads, "the leader gets the members");
        assert!(leads || joined.members.is_empty(), "and nobody else");
        let it = &mut self.clients[client];
        it.member_id = joined.member_id;
        it.generation = joined.generation;
        it.leads = leads && !joined.skip_assignment;
        it.members = joined.members.into_iter().map(|member| member.member_id).collect();
    }

    fn check(&mut self) {
        let described = self.bench.groups.describe("g");
        let Ok(group) = described else {
            self.generation = 0;
            return;
        };
        match group.state {
            State::Empty | State::Dead => assert_eq!(group.members, []),
            State::CompletingRebalance | State::Stable => assert_ne!(group.members, []),
            // Its first member may go before the others come.
            State::PreparingRebalance => {}
        }
        let (generation, leader) = self.bench.groups.generation_and_leader("g");
        assert!(generation >= self.generation, "the generation fell");
        self.generation = generation;
        let ids: Vec<&Arc<str>> = group.members.iter().map(|member| &member.member_id).collect();
        assert_eq!(leader.is_some(), !ids.is_empty());
        assert!(leader.is_none_or(|leader| ids.contains(&&leader)), "the leader is a member");
        let instances: Vec<_> = group.members.iter().filter_map(|member| member.instance_id.as_ref()).collect();
        assert!(instances.len() <= 1, "an instance id belongs to one member");
        assert!(group.members.len() <= 6, "a group is bounded");
    }

    /// Everything comes to an end: nobody waits for ever.
    fn finish(mut self) {
        for _ in 0..20 {
            self.settle();
            self.bench.pass(60_000);
            self.judge();
        }
        self.settle();
        self.judge();
        assert!(self.asked.is_empty(), "requests without an answer: {:?}", self.asked);
        for _ in 0..1_000 {
            if self.rewrite.is_none() {
                break;
            }
            self.rewrite();
            self.settle();
        }
        assert!(self.rewrite.is_none(), "the rewriting does not end");
        let after = self.bench.reload();
        assert_eq!(after.groups.committed_offsets(), self.bench.groups.committed_offsets());
        assert_eq!(after.groups.live_bytes(), self.bench.groups.live_bytes());
    }
}

/// What the log alone says is committed.
fn in_log(bench: &Bench) -> Vec<crate::CommittedOffset> {
    bench.reload().groups.committed_offsets()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_invariants_hold_whatever_happens(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
            model.judge();
            model.check();
            // What is acknowledged (and only that is in memory) is in the log, however it is cut off.
            prop_assert_eq!(in_log(&model.bench), model.bench.groups.committed_offsets());
        }
        model.finish();
    }
}
