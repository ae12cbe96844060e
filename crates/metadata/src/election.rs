//! Who is the controller: one small object in the store, the *seat*, which is replaced by compare-and-set.
//!
//! The seat tells brokers whom to follow. It does not make anybody the only writer: that is what opening the database
//! does, which fences whoever had it open. So two brokers that both believe to hold the seat cost time and nothing else.
//! When to claim it, and whom to ask before, is left to the crate `cluster`.
//!
//! Cost: a look is 1 GET; a claim is 1 PUT, and 1 GET more for a loser.

use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use objects::conditional::{self, ConditionalError, Current, Outcome};
use objects::{Store, keys};
use parking_lot::Mutex;
use prost::Message as _;
use proto::election as stored;
use records::Random;
use uuid::Uuid;

/// How often a broker held the seat before, plus one: grows with every claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ControllerEpoch(pub u64);

impl std::fmt::Display for ControllerEpoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Who holds the seat, as the object says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// Which claim it was.
    pub epoch: ControllerEpoch,
    /// The broker's name.
    pub name: String,
    /// Where it listens for other brokers, `HOST:PORT`; empty when it does not.
    pub address: String,
    id: Uuid,
}

/// A seat that was read, and can be claimed.
#[derive(Debug, Clone)]
pub struct Found {
    /// Who holds it; nobody ever did.
    pub seat: Option<Seat>,
    current: Option<Current>,
}

/// How a claim ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The seat is ours, as given.
    Won(Seat),
    /// Another broker was first.
    Lost(Seat),
}

/// Why the seat is not known.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The store does not answer, or not clearly: look again.
    #[error("the object store: {0}")]
    Store(#[from] object_store::Error),
    /// A claim ended without an outcome. It may stand, or come to stand: look again.
    #[error("{0}")]
    Unclear(#[from] ConditionalError),
    /// A person must look.
    #[error("the object {0} does not say who the controller is")]
    Corrupt(Path),
}

/// The election of one cluster, as one broker takes part in it.
#[derive(Clone)]
pub struct Election {
    store: Store,
    key: Path,
    random: Arc<dyn Random>,
    name: String,
    address: String,
    /// The ids of our claims, also of those whose end was not clear.
    claims: Arc<Mutex<Vec<Uuid>>>,
}

impl Election {
    /// Takes part under this name, reached by other brokers at `address`.
    ///
    /// # Panics
    /// When `cluster` is not a cluster name: the configuration is checked with [`keys::is_cluster_name`].
    #[must_use]
    pub fn new(store: Store, cluster: &str, random: Arc<dyn Random>, name: String, address: String) -> Self {
        let key = keys::metadata_path(cluster).join("controller");
        Self { store, key, random, name, address, claims: Arc::default() }
    }

    /// The name that it takes part under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this process claimed the seat.
    #[must_use]
    pub fn is_ours(&self, seat: &Seat) -> bool {
        self.claims.lock().contains(&seat.id)
    }

    /// Who holds the seat. Cancellation safe.
    ///
    /// # Errors
    /// [`ElectionError`].
    pub async fn look(&self) -> Result<Found, ElectionError> {
        let Some(current) = conditional::read(self.store.object_store().as_ref(), &self.key).await? else {
            return Ok(Found { seat: None, current: None });
        };
        let seat = self.decode(&current.value)?;
        Ok(Found { seat: Some(seat), current: Some(current) })
    }

    /// Takes the seat, if nobody took it since it was found so. Not cancellation safe: a claim that was abandoned may
    /// come to stand. It is found by the next look then, under our own name.
    ///
    /// # Errors
    /// [`ElectionError`].
    pub async fn claim(&self, found: &Found) -> Result<Claim, ElectionError> {
        let epoch = found.seat.as_ref().map_or(0, |seat| seat.epoch.0) + 1;
        let seat = Seat {
            epoch: ControllerEpoch(epoch),
            name: self.name.clone(),
            address: self.address.clone(),
            id: self.random.uuid(),
        };
        self.claims.lock().push(seat.id);
        let store = self.store.object_store().as_ref();
        let outcome = match &found.current {
            None => conditional::create(store, &self.key, encode(&seat)).await?,
            Some(current) => conditional::replace(store, &self.key, encode(&seat), &current.version).await?,
        };
        match outcome {
            Outcome::Won(_) => Ok(Claim::Won(seat)),
            Outcome::Lost(current) => Ok(Claim::Lost(self.decode(&current.value)?)),
        }
    }

    fn decode(&self, value: &Bytes) -> Result<Seat, ElectionError> {
        let corrupt = || ElectionError::Corrupt(self.key.clone());
        let stored::Seat { epoch, name, address, id } = stored::Seat::decode(value.clone()).map_err(|_| corrupt())?;
        let id = Uuid::from_slice(&id).map_err(|_| corrupt())?;
        if epoch == 0 || name.is_empty() {
            return Err(corrupt());
        }
        Ok(Seat { epoch: ControllerEpoch(epoch), name, address, id })
    }
}

fn encode(seat: &Seat) -> Bytes {
    let Seat { epoch, name, address, id } = seat;
    let stored = stored::Seat {
        epoch: epoch.0,
        name: name.clone(),
        address: address.clone(),
        id: Bytes::copy_from_slice(id.as_bytes()),
    };
    stored.encode_to_vec().into()
}

#[cfg(test)]
mod tests {
    use object_store::{ObjectStoreExt as _, PutPayload};

    use super::*;
    use crate::store::TestRandom;

    fn election(store: &Store, name: &str, seed: u64) -> Election {
        Election::new(store.clone(), "c1", TestRandom::new(seed), name.into(), format!("{name}:9095"))
    }

    fn store() -> Store {
        Store::new(Arc::new(object_store::memory::InMemory::new()), "memory")
    }

    #[tokio::test]
    async fn one_of_many_claims_wins_and_all_hear_whose_it_was() {
        let store = store();
        for round in 1..=5 {
            let found = election(&store, "a", 0).look().await.unwrap();
            assert_eq!(found.seat.as_ref().map_or(0, |seat| seat.epoch.0), round - 1);
            let brokers: Vec<_> = (0..8).map(|n| election(&store, &format!("b{n}"), round * 100 + n)).collect();
            let claims = futures::future::join_all(brokers.iter().map(|broker| broker.claim(&found))).await;
            let claims: Vec<_> = claims.into_iter().map(Result::unwrap).collect();
            let won: Vec<_> =
                claims.iter().filter_map(|c| if let Claim::Won(seat) = c { Some(seat) } else { None }).collect();
            let [won] = won[..] else { panic!("{claims:?}") };
            assert_eq!(won.epoch.0, round);
            assert!(claims.iter().all(|claim| matches!(claim, Claim::Won(seat) | Claim::Lost(seat) if seat == won)));
            assert_eq!(brokers[0].look().await.unwrap().seat.as_ref(), Some(won));
        }
    }

    #[tokio::test]
    async fn a_claim_over_an_older_seat_is_lost() {
        let store = store();
        let (a, b) = (election(&store, "a", 1), election(&store, "b", 2));
        let nobody = a.look().await.unwrap();
        let Claim::Won(first) = a.claim(&nobody).await.unwrap() else { panic!("nobody else was there") };
        assert_eq!(b.claim(&nobody).await.unwrap(), Claim::Lost(first.clone()));
        let found = b.look().await.unwrap();
        let Claim::Won(second) = b.claim(&found).await.unwrap() else { panic!("nobody else was there") };
        assert_eq!((second.name.as_str(), second.address.as_str(), second.epoch.0), ("b", "b:9095", 2));
        assert!(b.is_ours(&second) && !a.is_ours(&second) && a.is_ours(&first));
        assert!(!election(&store, "a", 3).is_ours(&first), "another process of the same name");
        // Also by the broker that held it.
        assert_eq!(a.claim(&found).await.unwrap(), Claim::Lost(second));
    }

    #[tokio::test]
    async fn what_is_no_seat_is_not_claimed() {
        let store = store();
        let a = election(&store, "a", 1);
        for broken in [&b"nobody"[..], b"", &[8, 0]] {
            store.object_store().put(&a.key, PutPayload::from(broken.to_vec())).await.unwrap();
            assert!(matches!(a.look().await, Err(ElectionError::Corrupt(_))), "{broken:?}");
        }
    }
}
